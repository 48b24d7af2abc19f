//! A world that tests write down: variables, files, and a fetcher that answers from a list.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{Outside, Reply, Request};
use crate::secret::Secret;

/// 2026-11-21T09:08:07Z
pub(super) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_252_087)
}

/// What is answered: a status and a body, or why nothing is.
pub(super) type Answer = Result<(u16, String), String>;

#[derive(Default)]
pub(super) struct Script {
    pub(super) variables: HashMap<String, String>,
    pub(super) files: HashMap<String, String>,
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Request>>,
}

impl Script {
    pub(super) fn new(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let owned = |list: &[(&str, &str)]| {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Self { variables: owned(variables), files: owned(files), ..Self::default() }
    }

    pub(super) fn answering(self, status: u16, body: impl Into<String>) -> Self {
        self.answers.lock().unwrap().push_back(Ok((status, body.into())));
        self
    }

    pub(super) fn silent(self, why: &str) -> Self {
        self.answers.lock().unwrap().push_back(Err(why.to_owned()));
        self
    }

    /// What was asked since the last look.
    pub(super) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(super) fn outside(self: &Arc<Self>) -> Outside {
        let [variables, files, fetch] = [(); 3].map(|()| Arc::clone(self));
        Outside {
            variable: Box::new(move |name| variables.variables.get(name).cloned()),
            file: Box::new(move |path| {
                let found = files.files.get(path.to_str().unwrap());
                found.cloned().ok_or_else(|| io::Error::from(ErrorKind::NotFound))
            }),
            fetch: Box::new(move |request| {
                let answer = fetch.answers.lock().unwrap().pop_front();
                let answer = answer.unwrap_or_else(|| Err(format!("{} was not expected", request.url)));
                fetch.asked.lock().unwrap().push(request);
                Box::pin(
                    async move { answer.map(|(status, body)| Reply { status, body: Secret::new(body) }) },
                )
            }),
            now: Box::new(start),
        }
    }
}
