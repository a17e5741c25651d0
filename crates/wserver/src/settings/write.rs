//! Prints settings: the default file, and the settings in force with the source of each.

use std::fmt::{self, Write};

use super::definition::{Definition, OnReload, Shape};
use super::sources::Loaded;
use super::table::definitions;

/// An example for a setting without a default.
fn example(definition: &Definition) -> String {
    match definition.form.shape {
        Shape::File => format!("\"/etc/wserver/{}\"", definition.name.trim_end_matches("_file")),
        _ => definition.form.example.to_owned(),
    }
}

/// A file that sets nothing and shows every setting; each line that begins with `#name` is ready to
/// be uncommented.
pub(crate) fn default_file() -> String {
    let defaults = Loaded::defaults();
    let mut file = String::new();
    // Writing to a string does not fail.
    let _ = write_default_file(&mut file, &defaults);
    file
}

fn write_default_file(file: &mut String, defaults: &Loaded) -> fmt::Result {
    writeln!(
        file,
        "# Settings of wserver: use them with `wserver --config FILE`, check them with\n\
         # `wserver check --config FILE`.\n\
         # Each line that begins with #name shows a default, or an example if there is no default.\n\
         # A flag overrides the environment, and the environment overrides this file: ping_interval\n\
         # is --ping-interval and WSERVER_PING_INTERVAL there.\n\
         # Write times as \"500ms\", \"30s\" or \"5m\", and sizes as 4096, \"64KiB\" or \"1MiB\".\n\
         # (reload): the server applies a change on SIGHUP, and when it sees that the file has changed."
    )?;
    let mut heading = "";
    for definition in definitions() {
        if definition.heading != heading {
            heading = definition.heading;
            writeln!(file, "\n\n## {heading}")?;
        }
        let reload = if definition.on_reload != OnReload::NeedsRestart { " (reload)" } else { "" };
        writeln!(file, "\n# {}{reload}", definition.doc())?;
        if definition.form.shape == Shape::Secret {
            writeln!(
                file,
                "# {} is a secret and must not be in this file; set {} in the environment.",
                definition.name,
                definition.variable()
            )?;
            continue;
        }
        let shown = defaults.effective(definition.name).and_then(|it| it.shown.clone());
        writeln!(file, "#{} = {}", definition.key(), shown.unwrap_or_else(|| example(definition)))?;
    }
    Ok(())
}

/// The column of the sources, unless the setting before them is longer.
const PLACE_COLUMN: usize = 40;

/// The settings in force, in the form of the file, each with its source.
pub(crate) fn effective(loaded: &Loaded) -> String {
    let lines = loaded.effective.iter().map(|it| {
        let name = it.definition.key();
        let place = it.origin.place(it.definition);
        match (&it.shown, place) {
            (Some(shown), place) => {
                (format!("{name} = {shown}"), place.unwrap_or_else(|| "default".to_owned()))
            }
            (None, Some(place)) => (format!("# {name} (set, from {place})"), String::new()),
            (None, None) => (format!("# {name} (not set)"), String::new()),
        }
    });
    let source = match &loaded.config {
        Some(path) => format!("# settings file: {}\n", path.display()),
        None => "# no settings file\n".to_owned(),
    };
    lines.fold(source, |mut text, (line, place)| {
        let _ = match place.is_empty() {
            true => writeln!(text, "{line}"),
            false => writeln!(text, "{line:PLACE_COLUMN$}  # {place}"),
        };
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::expect_file;

    use super::*;

    const FROM: &str = "<!-- from here on it is made out of the table of settings -->\n";

    /// The reference, from the table of settings.
    fn reference() -> String {
        let defaults = Loaded::defaults();
        let mut text = String::new();
        let mut heading = "";
        for definition in definitions() {
            if definition.heading != heading {
                heading = definition.heading;
                write!(text, "\n### {heading}\n\n| key | default | reload | what it is |\n|---|---|---|---|\n").unwrap();
            }
            let shown = defaults.effective(definition.name).and_then(|it| it.shown.clone());
            let default = shown.map_or_else(String::new, |shown| format!("`{shown}`"));
            let reload = if definition.on_reload != OnReload::NeedsRestart { "yes" } else { "" };
            let doc = definition.doc().replace('|', "\\|");
            let doc = match definition.form.shape {
                Shape::Secret => format!("{doc}; `{}` only", definition.variable()),
                _ => doc,
            };
            writeln!(text, "| `{}` | {default} | {reload} | {doc} |", definition.key()).unwrap();
        }
        text
    }

    /// `UPDATE_EXPECT=1` writes the reference into the page.
    #[test]
    fn the_reference_is_that_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (written, _) = text.split_once(FROM).expect("the mark of the reference");
        expect_file![path].assert_eq(&format!("{written}{FROM}{}", reference()));
    }
}
