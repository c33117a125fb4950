//! What each preset renders, to the letter, so that a change of the chart shows what it
//! changes. `USHER_WRITE=1` writes them anew, and fails where one was another: to be green
//! a change has to be looked at and run again.

use std::{env, fs};

use crate::{helm::project, presets};

#[test]
fn each_preset_renders_what_it_did() {
    let folder = project().join("tests/chart/golden");
    let writes = env::var_os("USHER_WRITE").is_some();
    let mut changed = Vec::new();
    let mut known = Vec::new();
    for preset in presets::all() {
        let file = folder.join(format!("{}.yaml", preset.name));
        let rendered = preset.render().text();
        let golden = fs::read_to_string(&file).unwrap_or_default();
        if rendered != golden {
            changed.push(preset.name.clone());
            if writes {
                fs::create_dir_all(&folder).expect("a folder");
                fs::write(&file, rendered).expect("written");
            }
        }
        known.push(file);
    }
    for file in folder.read_dir().expect("the goldens") {
        let file = file.expect("a file").path();
        assert!(known.contains(&file), "{} has no preset", file.display());
    }
    let mend = match writes {
        true => {
            "written anew: look at `git diff tests/chart/golden`, and run again without USHER_WRITE"
        }
        false => "to write them anew: USHER_WRITE=1 cargo test --test chart golden",
    };
    assert!(changed.is_empty(), "{changed:?} render otherwise; {mend}");
}
