//! What a request names by URL, and putting it in the place of the URL.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::source::usual_type;
use super::{Content, Request, Source};

/// What was found at a URL.
#[derive(Clone, Debug)]
pub struct Medium {
    /// Such as `image/png`.
    pub media_type: String,
    /// In standard base64.
    pub data: String,
}

/// What is expected at a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// A file to read.
    Document,
}

impl Kind {
    /// What it is called, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "a picture",
            Self::Audio => "sound",
            Self::Document => "a document",
        }
    }

    /// Whether something of that media type may stand there.
    pub fn takes(self, media_type: &str) -> bool {
        match self {
            Self::Image => media_type.starts_with("image/"),
            Self::Audio => media_type.starts_with("audio/"),
            Self::Document => media_type.starts_with("text/") || media_type == "application/pdf",
        }
    }
}

impl<'a> Request<'a> {
    /// The URLs of pictures, sounds and documents, each once.
    pub fn urls(&self) -> Vec<(String, Kind)> {
        let mut urls = Urls::default();
        for part in self.messages.iter().flat_map(|message| &message.parts) {
            in_content(&part.content, &mut urls);
        }
        urls.list
    }

    /// The same request with what was found in the place of its URLs.
    #[must_use]
    pub fn with_media(&self, found: &HashMap<String, Medium>) -> Self {
        let mut request = self.clone();
        for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
            put_into(&mut part.content, found);
        }
        request
    }
}

/// URLs in the order in which they were found.
#[derive(Default)]
struct Urls {
    list: Vec<(String, Kind)>,
    known: HashSet<String>,
}

fn in_content(content: &Content<'_>, urls: &mut Urls) {
    let (source, kind) = match content {
        Content::Image { source, .. } => (source, Kind::Image),
        Content::Audio(source) => (source, Kind::Audio),
        Content::Document { source, .. } => (source, Kind::Document),
        Content::ToolResult(result) => {
            return result.content.iter().for_each(|part| in_content(&part.content, urls));
        }
        _ => return,
    };
    if let Source::Url(url) = source {
        let url = url.plain().into_owned();
        if urls.known.insert(url.clone()) {
            urls.list.push((url, kind));
        }
    }
}

fn put_into(content: &mut Content<'_>, found: &HashMap<String, Medium>) {
    match content {
        Content::Image { source, .. } | Content::Audio(source) | Content::Document { source, .. } => {
            if let Source::Url(url) = source
                && let Some(medium) = found.get(&*url.plain())
            {
                let media_type = usual_type(Cow::Owned(medium.media_type.clone()));
                *source = Source::Base64 { media_type, data: Cow::Owned(medium.data.clone()) };
            }
        }
        Content::ToolResult(result) => {
            result.content.iter_mut().for_each(|part| put_into(&mut part.content, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::translate::Client;

    #[test]
    fn urls_are_found_wherever_they_stand_and_replaced_there() {
        let body = br#"{"model":"m","max_tokens":1,"messages":[
            {"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://a.test/\u0031.png"}}]},
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[
                {"type":"image","source":{"type":"url","url":"https://a.test/2.png"}},
                {"type":"image","source":{"type":"url","url":"https://a.test/1.png"}}]}]}]}"#;
        let request = Client::Messages.request(body).unwrap();
        let image = |url: &str| (url.to_owned(), Kind::Image);
        assert_eq!(request.urls(), [image("https://a.test/1.png"), image("https://a.test/2.png")]);
        let medium = Medium { media_type: "image/png".into(), data: "AAAA".into() };
        let found = HashMap::from([("https://a.test/1.png".to_owned(), medium)]);
        assert_eq!(request.with_media(&found).urls(), [image("https://a.test/2.png")]);
    }
}
