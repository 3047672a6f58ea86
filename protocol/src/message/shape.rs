//! Bodies that have more fields in the session dialect than in the base dialect.

/// Declares a body once: the type, and beside it the shape that the base dialect reads, where the fields below `session`
/// are unknown fields like any other. Reading and writing are plain functions of the type, see `strict`.
macro_rules! two_shapes {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident, base: $base:ident as $title:literal {
            $($(#[$common_attribute:meta])* pub $common:ident: $common_type:ty,)+
            session {
                $($(#[$session_attribute:meta])* pub $session:ident: Option<$session_type:ty>,)+
            }
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(remote = "Self")]
        pub struct $name {
            $($(#[$common_attribute])* pub $common: $common_type,)+
            $($(#[$session_attribute])* pub $session: Option<$session_type>,)+
        }

        $(#[$attribute])*
        #[derive(serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = $title))]
        pub(super) struct $base {
            $($(#[$common_attribute])* pub(super) $common: $common_type,)+
        }

        impl From<$base> for $name {
            fn from(base: $base) -> Self {
                Self {
                    $($common: base.$common,)+
                    $($session: None,)+
                }
            }
        }
    };
}

pub(super) use two_shapes;
