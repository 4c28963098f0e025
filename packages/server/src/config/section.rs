//! The shape of a section: written once, it is the type, its defaults, and its part of `config/example.toml`.

/// What the example file says about one key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Lines of its doc comment.
    pub(super) about: &'static [&'static str],
    /// What to show where there is no default, as TOML.
    pub(super) example: Option<&'static str>,
}

/// A table of the configuration file.
pub(super) trait Section {
    /// Lines of its doc comment.
    const ABOUT: &'static [&'static str];
    /// Its keys, in the order of the file.
    const KEYS: &'static [Key];
}

/// Defines a section: a struct with doc comments, types and defaults. A key that has none is followed by an example.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $key_about:literal])+
                $key:ident: $type:ty = $default:expr $(, e.g. $example:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $key_about])+
                pub $key: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),* }
            }
        }

        impl $crate::config::section::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const KEYS: &'static [$crate::config::section::Key] = &[$(
                $crate::config::section::Key {
                    name: stringify!($key),
                    about: &[$($key_about),+],
                    example: [$($example,)?].first().copied(),
                }
            ),*];
        }
    };
}
pub(super) use section;
