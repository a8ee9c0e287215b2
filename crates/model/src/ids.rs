//! Identifiers and log positions. One newtype each, so that a node id can never stand where a job id
//! is meant. All serialize as the bare string or number of the wire form.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `None` for the empty text, which most rows hold several times: it takes no room and costs nothing to make.
fn text(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| Arc::from(text))
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub struct $name(Option<Arc<str>>);

        impl $name {
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(text(name.as_ref()))
            }

            pub fn as_str(&self) -> &str {
                self.0.as_deref().unwrap_or_default()
            }

            /// True for the wire's "no such thing": the empty string.
            pub fn is_empty(&self) -> bool {
                self.0.is_none()
            }

            /// `None` where the wire carries the empty string.
            pub fn non_empty(&self) -> Option<&Self> {
                if self.is_empty() { None } else { Some(self) }
            }
        }

        /// As the text, so that a table by id is asked by text.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(text(name))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(text(&name))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<$name, E> {
                        Ok($name(text(v)))
                    }
                }
                d.deserialize_str(Text)
            }
        }
    };
}

string_id!(
    /// A job's name within its namespace, chosen by its author.
    JobId
);
string_id!(
    /// A namespace's name.
    NamespaceName
);
string_id!(
    /// A node's UUID.
    NodeId
);
string_id!(
    /// An allocation's UUID.
    AllocId
);
string_id!(
    /// An evaluation's UUID.
    EvalId
);
string_id!(
    /// A deployment's UUID.
    DeploymentId
);

impl NamespaceName {
    /// The namespace every cluster has.
    pub const DEFAULT: &str = "default";

    /// The namespace every cluster has.
    pub fn default_namespace() -> Self {
        Self::from(Self::DEFAULT)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub fn get(self) -> u64 {
                self.0
            }

            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(n: u64) -> Self {
                Self(n)
            }
        }
    };
}

number!(
    /// A position in the replicated log.
    Index
);
number!(
    /// How often a lease changed hands.
    Term
);
number!(
    /// How often capacity was taken away from a node.
    NodeFence
);

/// Where pure code gets new UUIDs from: a shell's random source, or a seeded one in tests.
pub type NewId<'a> = &'a mut dyn FnMut() -> String;
