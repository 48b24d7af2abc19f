//! The head of a request on its way to an endpoint, put together from borrowed parts and written in whichever version of
//! HTTP its connection speaks.

use bytes::{BufMut, BytesMut};
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::endpoint::Endpoint;
use crate::frame::http1::field;

/// A field of a request.
#[derive(Clone, Copy)]
struct Field<'a> {
    /// In lower case.
    name: &'a str,
    value: &'a [u8],
    /// Whether no index of HTTP/2 may remember it.
    secret: bool,
}

/// The head of a request.
pub struct Outgoing<'a> {
    method: &'a Method,
    /// The parts of the path and query, which are written one after another.
    target: [&'a str; 3],
    endpoint: &'a Endpoint,
    /// The length of the body, bytes; a request without a body has none.
    length: Option<usize>,
    fields: SmallVec<[Field<'a>; 20]>,
}

impl<'a> Outgoing<'a> {
    /// A request without fields but those that its address and its body give it.
    pub fn new(
        method: &'a Method,
        endpoint: &'a Endpoint,
        target: [&'a str; 3],
        length: Option<usize>,
    ) -> Self {
        Self { method, target, endpoint, length, fields: SmallVec::new() }
    }

    /// Whether a field of that name, in lower case, is there.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// The value of that field, whose name is in lower case.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.value)
    }

    /// The names of the fields, in their order.
    pub fn names(&self) -> Vec<&str> {
        self.fields.iter().map(|field| field.name).collect()
    }

    /// Sets a field to a text, in the place of any of that name, which is in lower case. A text with a control character
    /// is no value and is left out.
    pub fn text(&mut self, name: &'a str, value: &'a str) {
        if value.bytes().all(|byte| byte >= 0x20 && byte != 0x7f) {
            self.put(Field { name, value: value.as_bytes(), secret: false });
        }
    }

    /// Sets a field, in the place of any of that name.
    pub fn set(&mut self, name: &'a HeaderName, value: &'a HeaderValue) {
        self.put(Field { name: name.as_str(), value: value.as_bytes(), secret: value.is_sensitive() });
    }

    fn put(&mut self, field: Field<'a>) {
        match self.fields.iter_mut().find(|known| known.name == field.name) {
            Some(known) => *known = field,
            None => self.fields.push(field),
        }
    }

    /// The head for HTTP/1.1, with its empty line. There is room behind it for a small body.
    pub(super) fn one(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(1024 + self.length.unwrap_or(0).min(4096));
        out.put_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        self.target.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        field(&mut out, "host", self.endpoint.authority.as_bytes());
        if let Some(length) = self.length {
            field(&mut out, "content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        self.fields.iter().for_each(|Field { name, value, .. }| field(&mut out, name, value));
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The head as Pingora writes it.
    ///
    /// # Errors
    /// Only if a configured path or name is none, which `check` refuses.
    pub(super) fn any(&self, is_h2: bool) -> pingora_core::Result<Box<RequestHeader>> {
        let target = self.target.concat();
        let mut head = RequestHeader::build_no_case(
            self.method.clone(),
            target.as_bytes(),
            Some(self.fields.len() + 2),
        )?;
        if is_h2 {
            let scheme = if self.endpoint.spec.origin.tls { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(self.endpoint.authority.as_str());
            let uri = uri.path_and_query(target).build();
            head.set_uri(uri.map_err(|error| invalid(&error))?);
            head.set_version(Version::HTTP_2);
        } else {
            head.insert_header(HOST, self.endpoint.authority.as_str())?;
        }
        if let Some(length) = self.length {
            head.insert_header(http::header::CONTENT_LENGTH, length)?;
        }
        for Field { name, value, secret } in &self.fields {
            let mut value = HeaderValue::from_bytes(value).map_err(|error| invalid(&error))?;
            value.set_sensitive(*secret);
            head.insert_header((*name).to_owned(), value)?;
        }
        Ok(Box::new(head))
    }
}

fn invalid(error: &impl std::fmt::Display) -> Box<pingora_core::Error> {
    pingora_core::Error::explain(pingora_core::ErrorType::InvalidHTTPHeader, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::tests::endpoint;
    use super::*;

    #[test]
    fn one_head_is_written_for_each_version() {
        let endpoint = endpoint("http://127.0.0.1:9/base", 1, 0);
        let mut secret = HeaderValue::from_static("Bearer k");
        secret.set_sensitive(true);
        let mut head = Outgoing::new(&Method::POST, &endpoint, ["/base", "/messages", "?beta=true"], Some(5));
        head.text("accept", "first");
        head.text("accept", "a\r\nb: c");
        head.set(&http::header::AUTHORIZATION, &secret);
        head.text("accept", "second");
        assert!(head.has("accept") && !head.has("host"));
        let expected = "POST /base/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:9\r\ncontent-length: 5\r\n\
                        accept: second\r\nauthorization: Bearer k\r\n\r\n";
        assert_eq!(head.one(), expected);
        let two = head.any(true).unwrap();
        assert_eq!(two.uri.to_string(), "http://127.0.0.1:9/base/messages?beta=true");
        assert!(!two.headers.contains_key(HOST) && two.headers["authorization"].is_sensitive());
        assert_eq!(two.headers["content-length"], "5");
        assert_eq!(head.any(false).unwrap().headers[HOST], "127.0.0.1:9");
    }
}
