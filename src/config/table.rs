//! What a row of the table of keys becomes: a typed field, and a [`Key`].

use super::{
    keys::{Config, SECTIONS},
    value::{Complaint, Raw, Shown},
};

/// A table of the TOML file.
pub(super) struct Section {
    /// Its name, as in `[name]`; a nested one has a dot in it.
    pub(super) name: &'static str,
    /// Its documentation, a line each.
    pub(super) doc: &'static [&'static str],
    /// Its keys, in the order of the table.
    pub(super) keys: &'static [Key],
}

/// One key, whatever its type.
pub(super) struct Key {
    /// The name of its section.
    pub(super) section: &'static str,
    /// Its name within the section.
    pub(super) name: &'static str,
    /// Both, with a dot between: how people name it.
    pub(super) path: &'static str,
    /// Its documentation, a line each.
    pub(super) doc: &'static [&'static str],
    /// What kind of value it takes, in words.
    pub(super) kind: &'static str,
    /// Whether its value may be a secret: then no error shows it, and the key
    /// may name a file that holds it.
    pub(super) secret: bool,
    /// Reads a value into the field, if the value is good.
    pub(super) set: fn(&mut Config, &Raw) -> Result<(), Complaint>,
    /// Prints the field.
    pub(super) show: fn(&Config) -> Shown,
}

/// All keys, in the order of the table.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// Turns the table of keys into [`Config`], a struct a section, and [`SECTIONS`].
///
/// A row is `name: Type = default where rule`. The default is written as in a
/// TOML file; without one it is the type's own, such as `None`. The rule is a
/// function of `rules.rs` that a value must pass. A section `"a.b" => a_b: AB`
/// is the nested table `[a.b]`.
macro_rules! table {
    (@default) => { Default::default() };
    (@default $toml:tt) => { $crate::config::value::default(stringify!($toml)) };
    ($(
        $(#[doc = $about:literal])+
        $path:literal => $section:ident: $Section:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $Type:ty $(= $default:tt)? $(where $rule:ident)?,
        )+}
    )+) => {
        /// The whole configuration, a field a section.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {$(
            $(#[doc = $about])+
            pub $section: $Section,
        )+
            /// Which secrets came from which files, by their keys' paths.
            pub(super) secret_files: std::collections::BTreeMap<&'static str, String>,
            /// Keys of an earlier version that were given and have no effect, in words.
            pub ignored: Vec<String>,
        }

        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {$(
                $(#[doc = $doc])+
                pub $key: $Type,
            )+}

            impl Default for $Section {
                fn default() -> Self {
                    Self {$( $key: table!(@default $($default)?), )+}
                }
            }
        )+

        /// All sections with their keys.
        pub(super) static SECTIONS: &[Section] = &[$(
            Section {
                name: $path,
                doc: &[$($about),+],
                keys: &[$(
                    Key {
                        section: $path,
                        name: stringify!($key),
                        path: concat!($path, ".", stringify!($key)),
                        doc: &[$($doc),+],
                        kind: <$Type as Value>::KIND,
                        secret: <$Type as Value>::SECRET,
                        set: |config, raw| {
                            let value: $Type = raw.read()?;
                            $( rules::$rule(&value)?; )?
                            config.$section.$key = value;
                            Ok(())
                        },
                        show: |config| config.$section.$key.show(),
                    },
                )+],
            },
        )+];
    };
}

pub(super) use table;
