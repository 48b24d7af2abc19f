//! The messages of Bedrock Converse.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use super::{Carries, Finish, Usage};
use crate::dialect::converse::reply::usage;
use crate::dialect::ir::lenient::Raw;
use crate::frame::eventstream::{Message, Reader};

static SIGNATURE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"signature\""));
static CITATION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"citation\""));

/// How far a Converse stream has come.
#[derive(Debug, Default)]
pub(super) struct Converse {
    stage: Stage,
    usage: Option<Usage>,
}

/// Both the end and the usage have to come, in either order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Speaking,
    /// The usage came.
    Metered,
    /// The end came.
    Stopped,
    /// Both did.
    Over,
    /// There was an exception.
    Failed,
}

impl Converse {
    /// Reads a whole message. One that is broken carries nothing: the client will see for itself.
    pub(super) fn message(&mut self, bytes: &[u8]) -> Option<Carries> {
        let mut carries = None;
        let read = Reader::default().push(bytes, &mut |message| carries = Some(self.one(&message)));
        carries.filter(|_| read.is_ok())
    }

    pub(super) fn finish(&self) -> Finish {
        match self.stage {
            Stage::Failed => Finish::Failed,
            Stage::Stopped | Stage::Over => Finish::Done,
            Stage::Speaking | Stage::Metered => Finish::Open,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Over | Stage::Failed)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn one(&mut self, message: &Message<'_>) -> Carries {
        if matches!(message.headers.text(":message-type"), Some("exception" | "error")) {
            self.stage = Stage::Failed;
            return Carries::Other;
        }
        match (message.headers.text(":event-type").unwrap_or_default(), self.stage) {
            ("contentBlockDelta", _) if is_content(message.payload) => return Carries::Content,
            ("messageStop", Stage::Speaking) => self.stage = Stage::Stopped,
            ("messageStop", Stage::Metered) => self.stage = Stage::Over,
            ("metadata", stage) => {
                let metadata: Metadata<'_> = serde_json::from_slice(message.payload).unwrap_or_default();
                self.usage = usage(metadata.usage).or(self.usage);
                self.stage = match stage {
                    Stage::Speaking => Stage::Metered,
                    Stage::Stopped => Stage::Over,
                    stage => stage,
                };
            }
            _ => {}
        }
        Carries::Other
    }
}

/// Whether a delta is text, thinking or tool input, and not a signature or a citation.
fn is_content(payload: &[u8]) -> bool {
    SIGNATURE.find(payload).is_none() && CITATION.find(payload).is_none()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    usage: Raw<'a>,
}
