//! What becomes of an exchange in each cell of the matrix.

use super::site::Sick;
use crate::faults::Sees::{self, Answer, Failing, Status, Told};

/// What one exchange comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// What the client sees.
    pub(super) sees: Sees,
    /// How many attempts were made.
    pub(super) attempts: u64,
    /// How many of them failed for a cause that the log names, before the client was told anything.
    pub(super) failed: u64,
    /// That cause.
    pub(super) cause: &'static str,
    /// How many requests came whole to the sick upstream, which may have worked on them, and to the spare one.
    pub(super) asked: [u64; 2],
    /// Whose tokens were counted, in the log and in the metrics: those of the attempt that answered, once.
    pub(super) billed: Billed,
}

/// Whose tokens were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Billed {
    Nobodys,
    Sick,
    Spare,
}

use Billed::{Nobodys, Sick as Sicks, Spare};

/// With another endpoint left, with another deployment left, with none.
type Course = [Cell; 3];

/// A fault, and what becomes of a stream and of a whole reply, each from an HTTP/1.1 upstream and from an HTTP/2 one.
pub(super) struct Row {
    pub(super) sick: Sick,
    pub(super) stream: [Course; 2],
    pub(super) whole: [Course; 2],
}

const BAD: Sees = Status(502);
const LATE: Sees = Status(504);

// === Courses ===

/// The spare one answers at the second attempt.
const fn spare(cause: &'static str, requests: u64) -> Cell {
    Cell { sees: Answer, attempts: 2, failed: 1, cause, asked: [requests, 1], billed: Spare }
}

/// The sick one is asked so often, in vain.
const fn vain(cause: &'static str, sees: Sees, attempts: u64, requests: u64) -> Cell {
    Cell { sees, attempts, failed: attempts, cause, asked: [requests, 0], billed: Nobodys }
}

/// The sick one does all the same at the second attempt.
const fn again(cause: &'static str) -> Cell {
    Cell { sees: Answer, attempts: 2, failed: 1, cause, asked: [2, 0], billed: Sicks }
}

/// Tried elsewhere where there is another place, and three times where there is none.
const fn over(cause: &'static str, last: Sees) -> Course {
    [spare(cause, 1), spare(cause, 1), vain(cause, last, 3, 3)]
}

/// No connection: not tried there again.
const fn unsent(last: Sees) -> Course {
    [spare("unsent", 0), spare("unsent", 0), vain("unsent", last, 1, 0)]
}

/// It cannot serve: endpoints share what it is refused for.
const fn unserved(last: Sees) -> Course {
    [vain("unserved", last, 1, 1), spare("unserved", 1), vain("unserved", last, 1, 1)]
}

/// Only a connection is sick: a new one serves where there is no other place.
const fn reconnects(cause: &'static str) -> Course {
    [spare(cause, 1), spare(cause, 1), again(cause)]
}

/// Nothing is wrong with what matters.
const FINE: Course =
    [Cell { sees: Answer, attempts: 1, failed: 0, cause: "", asked: [1, 0], billed: Sicks }; 3];

/// The client has been told something: no other attempt can take over.
const fn committed(sees: Sees) -> Course {
    [Cell { sees, attempts: 1, failed: 0, cause: "", asked: [1, 0], billed: Nobodys }; 3]
}

/// A row whose replies are all alike.
const fn all(sick: Sick, course: Course) -> Row {
    Row { sick, stream: [course; 2], whole: [course; 2] }
}

/// A row of a fault of streams alone, or of whole replies.
const fn each(fault: &'static str, stream: Course, whole: Course) -> Row {
    Row { sick: Sick::Always(fault), stream: [stream; 2], whole: [whole; 2] }
}

/// A row in which the protocols differ.
const fn either(sick: Sick, one: Course, two: Course) -> Row {
    Row { sick, stream: [one, two], whole: [one, two] }
}

// === The matrix ===

pub(super) const UNREACHABLE: &[Row] = &[
    all(Sick::Refuses, unsent(BAD)),
    all(Sick::BlackHole, unsent(LATE)),
    all(Sick::Always("reset_before_head"), over("broken", BAD)),
    all(Sick::Always("garbage_head"), over("broken", BAD)),
    // A connection of the pool whose peer has gone without a word, and one that its peer resets.
    all(Sick::Pooled("vanish"), reconnects("slow")),
    either(Sick::Pooled("reset_before_head"), [again("unsent"); 3], reconnects("broken")),
];

pub(super) const BROKEN: &[Row] = &[
    all(Sick::Always("reset_after_head"), over("broken", BAD)),
    // After an event that has no content; after the first that has; in the midst.
    all(Sick::Always("reset=1"), over("broken", BAD)),
    Row {
        // A reset before its end was said says that a reply is not whole.
        whole: [FINE, over("broken", BAD)],
        ..each("reset=2", committed(Failing), FINE)
    },
    each("reset=6", committed(Failing), FINE),
    all(Sick::Always("cut=1"), over("broken", BAD)),
    each("cut=6", committed(Failing), FINE),
    all(Sick::Always("goaway=1"), over("broken", BAD)),
    each("goaway=6", committed(Failing), FINE),
    all(Sick::Always("bad_chunk=0"), over("broken", BAD)),
    all(Sick::Always("bad_chunk=1"), over("broken", BAD)),
    each("bad_chunk=6", committed(Failing), FINE),
    all(Sick::Always("wrong_length=short"), over("broken", BAD)),
    // All that matters of a stream comes before the length is missed.
    each("wrong_length=long", FINE, over("broken", BAD)),
    each("empty_stream", over("broken", BAD), FINE),
    all(Sick::Always("empty_body"), over("broken", BAD)),
];

pub(super) const TOLD: &[Row] = &[
    all(Sick::Always("status=429"), over("limited", Status(429))),
    all(Sick::Always("status=429;retry_after=1"), over("limited", Status(429))),
    all(Sick::Always("quota"), unserved(Status(429))),
    all(Sick::Always("status=500"), over("failed", Status(500))),
    all(Sick::Always("status=503"), over("failed", Status(503))),
    all(Sick::Always("status=529"), over("failed", Status(529))),
    each("error_event", over("failed", Told), FINE),
    each("error_event=6", committed(Told), FINE),
    all(Sick::Always("error_body"), over("broken", BAD)),
];

pub(super) const SILENT: &[Row] = &[
    all(Sick::Always("stall=head"), over("slow", LATE)),
    all(Sick::Always("stall=0"), over("slow", LATE)),
    all(Sick::Always("stall=1"), over("slow", LATE)),
    each("stall=6", committed(Failing), FINE),
    // A byte a second.
    all(Sick::Always("slow_head=1000"), over("slow", LATE)),
    all(Sick::Always("slow_body=1000"), over("slow", LATE)),
];
