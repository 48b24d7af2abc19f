//! An HTTP/2 client with prior knowledge, for one request at a time.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::client::Reply;
use super::soon;

/// A connection.
pub(crate) struct H2Client {
    sender: SendRequest<Bytes>,
}

impl H2Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        // It ends with the test's runtime, or when the server closes it.
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request and its body, and reads the reply. A server that has answered need not take all of the body; a
    /// stream that it resets instead has the status 0.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Reply {
        soon("an HTTP/2 reply", self.exchange(request)).await
    }

    async fn exchange(&self, request: Request<Bytes>) -> Reply {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (parts, mut body) = request.into_parts();
        let (response, mut upload) =
            sender.send_request(Request::from_parts(parts, ()), body.is_empty()).unwrap();
        let sending = async {
            while !body.is_empty() {
                upload.reserve_capacity(body.len());
                let granted = std::future::poll_fn(|cx| upload.poll_capacity(cx)).await;
                let Some(Ok(granted)) = granted else { return };
                let piece = body.split_to(granted.min(body.len()));
                if upload.send_data(piece, body.is_empty()).is_err() {
                    return;
                }
            }
        };
        let (response, ()) = tokio::join!(response, sending);
        let Ok(response) = response else { return Reply::default() };
        let (head, mut body) = response.into_parts();
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
        };
        let headers = head.headers.iter().map(field).collect();
        let mut reply = Reply { status: head.status.as_u16(), headers, ..Reply::default() };
        while let Some(piece) = body.data().await {
            let Ok(piece) = piece else { return reply };
            let _ = body.flow_control().release_capacity(piece.len());
            reply.body.extend_from_slice(&piece);
        }
        reply.whole = true;
        reply
    }
}
