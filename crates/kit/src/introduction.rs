//! How does a machine that nobody knows come by its certificate?
//!
//! An operator makes a *token* (`steppe node intro create`) and gives it to the machine. It is two parts,
//! joined by a dot: *claims*, which anybody may read, and a secret that only the holders of the authority's
//! key can make from them. Neither side sends the secret:
//!
//! ```text
//!   machine ──claims, request, HMAC(secret, what it asks)──► any gateway ─► state, which has the key
//!           ◄──authority, certificate, HMAC(secret, what is answered)──────────┘
//! ```
//!
//! Each side thereby proves to the other that it has the token, or may make tokens, before either believes
//! what it is told; so the connection needs no certificate that is already trusted. Pure: the clock and the
//! randomness come from the caller. A token may be used again until it is over.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 4 << 10;
const PREFIX: &str = "steppe-intro-1";

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub region: String,
    /// Only for a node of this name; empty: any.
    pub node_name: String,
    /// Only for a node of this pool; empty: any.
    pub node_pool: String,
    /// Unix seconds.
    pub expires: u64,
    /// Tells tokens apart.
    pub nonce: String,
}

/// A token is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntroductionError {
    #[error("this is no introduction token")]
    NotAToken,
    #[error("the introduction token is of another cluster, or was changed")]
    Proof,
    #[error("the introduction token is over; make another with `steppe node intro create`")]
    Over,
    #[error("the introduction token is for another region")]
    Region,
    #[error("the introduction token is for a node of another name")]
    NodeName,
    #[error("the introduction token is for another node pool")]
    NodePool,
}

/// A token that no machine could use is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    #[error("it is a time above zero, such as 5m")]
    Ttl,
    #[error("it is letters, digits, `-` and `_`, in parts joined by dots, at most 128")]
    NodeName,
    #[error("it is letters, digits, `-` and `_`, at most 128")]
    NodePool,
    #[error("no node is in pool `all` by its own word: every node is")]
    EveryPool,
}

/// What somebody wishes of a token that is to be made. Empty: no wish.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    pub node_name: &'a str,
    pub node_pool: &'a str,
    pub ttl_ns: Option<i64>,
}

impl Wish<'_> {
    /// # Errors
    /// What of it cannot be, with the name that people know it by.
    pub fn check(&self) -> Result<(), (&'static str, WishError)> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = |text: &str, more: &[u8]| text.len() <= 128 && text.bytes().all(|b| letters(b) || more.contains(&b));
        match () {
            () if self.ttl_ns.is_some_and(|ttl| ttl <= 0) => Err(("TTL", WishError::Ttl)),
            () if self.node_pool == "all" => Err(("NodePool", WishError::EveryPool)),
            () if !fits(self.node_pool, b"") => Err(("NodePool", WishError::NodePool)),
            () if !fits(self.node_name, b".") => Err(("NodeName", WishError::NodeName)),
            () => Ok(()),
        }
    }
}

/// A token, taken apart.
#[derive(Clone)]
pub struct Token {
    claims: String,
    secret: Vec<u8>,
}

impl Token {
    /// Makes a token; `key` is the authority's own.
    pub fn mint(key: &[u8], claims: &Claims) -> Self {
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
        Self { secret: secret(key, &claims), claims }
    }

    /// The token behind claims that somebody presents.
    pub fn of_claims(key: &[u8], claims: &str) -> Self {
        Self { secret: secret(key, claims), claims: claims.to_owned() }
    }

    /// # Errors
    /// It is no token.
    pub fn parse(text: &str) -> Result<Self, IntroductionError> {
        let text = text.trim();
        let rest =
            text.strip_prefix(PREFIX).and_then(|t| t.strip_prefix('.')).filter(|_| text.len() <= TOKEN_BYTES_MAX);
        let (claims, secret) = rest.and_then(|r| r.split_once('.')).ok_or(IntroductionError::NotAToken)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| IntroductionError::NotAToken)?;
        let token = Self { claims: claims.to_owned(), secret };
        token.claims().map(|_| token)
    }

    /// The token as text, for whoever is to use it.
    pub fn text(&self) -> String {
        format!("{PREFIX}.{}.{}", self.claims, URL_SAFE_NO_PAD.encode(&self.secret))
    }

    /// The part that may be shown.
    pub fn claims_text(&self) -> &str {
        &self.claims
    }

    /// # Errors
    /// The claims cannot be read.
    pub fn claims(&self) -> Result<Claims, IntroductionError> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.claims).map_err(|_| IntroductionError::NotAToken)?;
        serde_json::from_slice(&bytes).map_err(|_| IntroductionError::NotAToken)
    }

    /// Proof that whoever says `parts` has the token; `what` keeps questions and answers apart.
    pub fn prove(&self, what: &str, parts: &[&str]) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key(), &message(what, parts)))
    }

    /// # Errors
    /// [`IntroductionError::Proof`].
    pub fn check(&self, what: &str, parts: &[&str], proof: &str) -> Result<(), IntroductionError> {
        let tag = URL_SAFE_NO_PAD.decode(proof).map_err(|_| IntroductionError::Proof)?;
        hmac::verify(&self.key(), &message(what, parts), &tag).map_err(|_| IntroductionError::Proof)
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.secret)
    }
}

impl Claims {
    /// # Errors
    /// They do not allow this node in.
    pub fn allow(&self, region: &str, node_name: &str, node_pool: &str, now: u64) -> Result<(), IntroductionError> {
        if now > self.expires {
            return Err(IntroductionError::Over);
        }
        if self.region != region {
            return Err(IntroductionError::Region);
        }
        if !self.node_name.is_empty() && self.node_name != node_name {
            return Err(IntroductionError::NodeName);
        }
        if !self.node_pool.is_empty() && self.node_pool != node_pool {
            return Err(IntroductionError::NodePool);
        }
        Ok(())
    }
}

/// A UUID in lower case: what a machine may ask to be.
pub fn is_node_id(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    let fits = |(at, b): (usize, u8)| match dashes.contains(&at) {
        true => b == b'-',
        false => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

fn secret(key: &[u8], claims: &str) -> Vec<u8> {
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"steppe introduction 1");
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), claims.as_bytes()).as_ref().to_vec()
}

/// Lengths stand before the parts, so that no two lists read the same.
fn message(what: &str, parts: &[&str]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [what].iter().chain(parts) {
        message.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            region: "global".into(),
            node_name: "n".into(),
            node_pool: "p".into(),
            expires: 100,
            nonce: "x".into(),
        }
    }

    #[test]
    fn only_a_holder_of_the_token_or_the_key_can_prove_it() {
        let token = Token::parse(&Token::mint(b"key", &claims()).text()).unwrap();
        let proof = token.prove("ask", &["csr", "node"]);
        let server = Token::of_claims(b"key", token.claims_text());
        server.check("ask", &["csr", "node"], &proof).unwrap();
        for (what, parts) in [("answer", ["csr", "node"]), ("ask", ["csrn", "ode"]), ("ask", ["csr", "other"])] {
            assert_eq!(server.check(what, &parts, &proof), Err(IntroductionError::Proof));
        }
        let another = Token::of_claims(b"another key", token.claims_text());
        assert_eq!(another.check("ask", &["csr", "node"], &proof), Err(IntroductionError::Proof));
        let raised = Token::mint(b"other", &Claims { expires: 1_000, ..claims() });
        let raised = Token { claims: raised.claims, secret: token.secret.clone() };
        let proof = raised.prove("ask", &["csr", "node"]);
        let server = Token::of_claims(b"key", raised.claims_text());
        assert_eq!(server.check("ask", &["csr", "node"], &proof), Err(IntroductionError::Proof));
    }

    #[test]
    fn claims_are_for_a_time_a_region_a_name_and_a_pool() {
        let claims = claims();
        claims.allow("global", "n", "p", 100).unwrap();
        assert_eq!(claims.allow("global", "n", "p", 101), Err(IntroductionError::Over));
        assert_eq!(claims.allow("eu", "n", "p", 1), Err(IntroductionError::Region));
        assert_eq!(claims.allow("global", "m", "p", 1), Err(IntroductionError::NodeName));
        assert_eq!(claims.allow("global", "n", "q", 1), Err(IntroductionError::NodePool));
        let open = Claims { node_name: String::new(), node_pool: String::new(), ..claims };
        open.allow("global", "any", "any", 1).unwrap();
    }

    #[test]
    fn a_node_id_is_a_uuid_and_nothing_else() {
        assert!(is_node_id("6f1f2d1e-0000-4000-8000-000000000001"));
        for bad in ["", "6F1F2D1E-0000-4000-8000-000000000001", "state-1", "6f1f2d1e-0000-4000-8000-00000000000."] {
            assert!(!is_node_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_wish_that_no_machine_could_fulfil_is_named() {
        let wish = |node_name: &str, node_pool: &str, ttl_ns| {
            let said = Wish { node_name, node_pool, ttl_ns }.check();
            said.map_err(|(what, _)| what)
        };
        for ttl in [None, Some(1)] {
            assert_eq!(wish("web.1", "gpu", ttl), Ok(()));
        }
        assert_eq!((wish("", "", Some(0)), wish("", "", Some(-1))), (Err("TTL"), Err("TTL")));
        assert_eq!((wish("", "all", None), wish("", "a.b", None)), (Err("NodePool"), Err("NodePool")));
        assert_eq!((wish("a b", "", None), wish(&"a".repeat(129), "", None)), (Err("NodeName"), Err("NodeName")));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "x", "steppe-intro-1", "steppe-intro-1.a.b", "steppe-intro-1.e30.!", "eyJ.eyJ.x"] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
        assert!(Token::parse(&format!("steppe-intro-1.{}.x", "a".repeat(TOKEN_BYTES_MAX))).is_err());
    }
}
