//! One setting: its names, its built-in values, its range, and the words that describe it.

use super::types::Profile;

/// A built-in value, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The value itself, in the form an environment variable would give it.
    Fixed(&'static str),
    /// Depends on the process or on other settings; the words say how.
    Computed(&'static str),
    /// No value: the setting is optional.
    Unset,
}

/// The description of one setting. The list of all of them is [`super::SECTIONS`].
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Key in the configuration file; names its unit.
    pub key: &'static str,
    /// Environment variables; the first one wins where several are set.
    pub env: &'static [&'static str],
    /// Command-line flag, with its dashes.
    pub flag: Option<&'static str>,
    /// Value where the profile has none of its own.
    pub default: Preset,
    /// Values of the profiles that differ from the default.
    pub profiles: &'static [(Profile, Preset)],
    /// Smallest and largest number allowed. Whole range for settings that are not numbers.
    pub range: (u64, u64),
    /// Whether the value may hold a password.
    pub secret: bool,
    /// Whether a reload can apply a change. Other changes wait for a restart.
    pub hot: bool,
    /// `None` when the setting is in force. Otherwise the feature it will take effect with: until then it is read,
    /// checked and shown, and changes nothing.
    pub awaits: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
    /// What kind of value it takes.
    pub kind: &'static str,
}

impl Setting {
    pub(super) const fn new(key: &'static str, env: &'static [&'static str]) -> Self {
        Self {
            key,
            env,
            flag: None,
            default: Preset::Unset,
            profiles: &[],
            range: (0, u64::MAX),
            secret: false,
            hot: false,
            awaits: None,
            doc: "",
            kind: "",
        }
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = Preset::Fixed(value);
        self
    }

    pub(super) const fn computed(mut self, how: &'static str) -> Self {
        self.default = Preset::Computed(how);
        self
    }

    pub(super) const fn profiles(mut self, values: &'static [(Profile, Preset)]) -> Self {
        self.profiles = values;
        self
    }

    pub(super) const fn range(mut self, min: u64, max: u64) -> Self {
        self.range = (min, max);
        self
    }

    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn hot(mut self) -> Self {
        self.hot = true;
        self
    }

    pub(super) const fn awaits(mut self, feature: &'static str) -> Self {
        self.awaits = Some(feature);
        self
    }

    pub(super) const fn described(mut self, doc: &'static str, kind: &'static str) -> Self {
        self.doc = doc;
        self.kind = kind;
        self
    }

    /// The unit its key names, for messages: ` ms`, ` bytes` or nothing.
    pub(super) fn unit(&self) -> &'static str {
        if self.key.ends_with("_ms") {
            " ms"
        } else if self.key.ends_with("_bytes") {
            " bytes"
        } else {
            ""
        }
    }

    /// The setting with this key in the file.
    pub(crate) fn find(key: &str) -> Option<&'static Self> {
        Self::all().find(|setting| setting.key == key)
    }

    /// Every setting, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        super::SECTIONS.iter().flat_map(|(_, settings)| settings.iter())
    }
}

/// Turns the one list of settings into the plain structs of [`super::Config`], the code that fills them, and the table
/// [`super::SECTIONS`] that names, defaults and documentation are taken from.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        $section:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $setting:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $section {
                $( $(#[doc = $doc])+ pub $field: $type, )+
            }

            impl $section {
                /// Reads every field before it misses one, so that all problems are listed.
                pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                    $( let $field = {
                        const SETTING: Setting = $setting;
                        reader.read::<$type>(&SETTING)
                    }; )+
                    Some(Self { $( $field: $field?, )+ })
                }
            }
        )+

        /// Every setting, by section of [`super::Config`].
        pub const SECTIONS: &[(&str, &[Setting])] = &[$(
            (stringify!($section), &[$(
                $setting.described(concat!($($doc),+), <$type as Value>::KIND),
            )+]),
        )+];
    };
}
pub(super) use sections;
