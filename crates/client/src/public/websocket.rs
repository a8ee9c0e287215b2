//! Websockets of the public API: text frames in both directions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{PublicClient, PublicError, Query, collect};

/// Longest frame that is read.
const FRAME_BYTES_MAX: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Text(String),
    /// The server's last word, with its reason.
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection broke without one.
    Lost(String),
}

/// The sending half. Dropping both halves closes the connection.
pub struct WebSender(SplitSink<Socket, Message>);

/// The receiving half.
pub struct WebReceiver(SplitStream<Socket>);

impl PublicClient {
    /// Opens a websocket.
    ///
    /// # Errors
    /// As [`PublicClient::send`]; [`PublicError::Status`] when the server does not agree.
    pub async fn websocket(&self, path: &str, query: &Query) -> Result<(WebSender, WebReceiver), PublicError> {
        let within = self.0.settings.timeout;
        let work = async {
            let settings = &self.0.settings;
            let uri = query.uri(path, settings.region.as_deref(), settings.namespace.as_deref());
            let mut request = self.request(&Method::GET, &uri, None, None)?;
            let headers = request.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            let key = STANDARD.encode(rand::random::<[u8; 16]>());
            let key = HeaderValue::from_str(&key).map_err(|e| PublicError::Request(e.to_string()))?;
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
            let broken = |source| PublicError::Broken { address: self.address().to_owned(), source };
            let mut sender = self.connect().await?;
            let response = sender.send_request(request).await.map_err(broken)?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let status = response.status();
                let answer = collect(self.address(), response).await?;
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(PublicError::Status { status, body });
            }
            let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
            let mut config = WebSocketConfig::default();
            config.max_message_size = Some(FRAME_BYTES_MAX);
            config.max_frame_size = Some(FRAME_BYTES_MAX);
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
            let (sink, stream) = socket.split();
            Ok((WebSender(sink), WebReceiver(stream)))
        };
        tokio::time::timeout(within, work).await.map_err(|_| self.timed_out(within))?
    }
}

impl WebSender {
    /// Sends a text. False when the connection is over.
    pub async fn send(&mut self, text: String) -> bool {
        self.0.send(Message::Text(text.into())).await.is_ok()
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        let _ = self.0.close().await;
    }
}

impl WebReceiver {
    /// The next text, or how it ended. May be cancelled without loss.
    pub async fn next(&mut self) -> Heard {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => return Heard::Text(String::from_utf8_lossy(&bytes).into_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return Heard::Closed { code, reason };
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Heard::Lost(error.to_string()),
                None => return Heard::Lost("the connection ended".to_owned()),
            }
        }
    }
}
