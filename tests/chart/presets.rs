//! The ways in which the chart is mostly installed, each a file of values.

use std::path::PathBuf;

use crate::helm::{Objects, Render, project};

/// A file of `tests/chart/presets`.
pub(crate) struct Preset {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Preset {
    pub(crate) fn render(&self) -> Render {
        Render::bare().file(&self.path)
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Preset> {
    let folder = project().join("tests/chart/presets");
    let files = folder.read_dir().expect("the presets");
    let mut presets: Vec<_> = files
        .map(|file| file.expect("a file").path())
        .map(|path| {
            let name = path.file_stem().expect("a name");
            let name = name.to_string_lossy().into_owned();
            Preset { name, path }
        })
        .collect();
    presets.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(presets.len() >= 8, "where are the presets?");
    presets
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Preset {
    let found = all().into_iter().find(|preset| preset.name == name);
    found.unwrap_or_else(|| panic!("there is no preset {name}"))
}

/// What the one of this name renders.
pub(crate) fn objects(name: &str) -> Objects {
    named(name).render().objects()
}
