//! Imports run downwards: no two files of a crate import each other, not by way of others either.
//!
//! A `mod` line is no import, and the crate's front page, `lib.rs` or `main.rs`, is left out: it
//! shows what the rooms below hold. Like the rest of tidy this searches, it does not parse.

use std::collections::{BTreeMap, BTreeSet};

use super::scrub;
use super::source::Source;
use crate::problem::Problem;

/// A file by its place below `src`: `binder/table.rs` is `["binder", "table"]`.
type Module = Vec<String>;

/// The circles of every crate, each told once.
pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let mut crates: BTreeMap<&str, BTreeMap<Module, &Source>> = BTreeMap::new();
    for source in sources {
        if let Some((folder, module)) = module(&source.path) {
            crates.entry(folder).or_default().insert(module, source);
        }
    }
    crates.into_iter().flat_map(|(folder, modules)| circles(folder, &modules)).collect()
}

/// The crate's folder and the module of a file below its `src`, unless that is the front page.
fn module(path: &str) -> Option<(&str, Module)> {
    let (folder, file) = path.split_once("/src/")?;
    let module = file.strip_suffix(".rs")?;
    // A program of its own has a front page of its own.
    let is_front_page = matches!(module, "lib" | "main") || module.starts_with("bin/");
    let is_ours =
        folder == "xtask" || folder.strip_prefix("crates/").is_some_and(|it| !it.contains('/'));
    (is_ours && !is_front_page)
        .then(|| (folder, module.split('/').map(ToOwned::to_owned).collect()))
}

fn circles(folder: &str, modules: &BTreeMap<Module, &Source>) -> Vec<Problem> {
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = modules
        .iter()
        .map(|(module, source)| (module, imports(module, &source.text, modules)))
        .collect();
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for module in modules.keys() {
        let Some(circle) = shortest_circle(module, &imports) else { continue };
        if circle.iter().any(|it| told.contains(it)) {
            continue;
        }
        told.extend(circle.iter().copied());
        let path: Vec<String> =
            circle.iter().chain(circle.first()).map(|module| module.join("::")).collect();
        let place = format!("{folder}/src/{}.rs", module.join("/"));
        let what = format!("imports run in a circle: {}", path.join(" → "));
        let fix = "move what both need into a file below them, or pass it in from above";
        problems.push(Problem::new(place, what, fix));
    }
    problems
}

/// The way from a module through its imports back to it, if there is one.
fn shortest_circle<'m>(
    start: &'m Module,
    imports: &BTreeMap<&'m Module, BTreeSet<&'m Module>>,
) -> Option<Vec<&'m Module>> {
    let mut came_from: BTreeMap<&Module, &'m Module> = BTreeMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut next = Vec::new();
        for module in front {
            for &import in &imports[module] {
                if import == start {
                    let mut way = vec![module];
                    while let Some(&before) = came_from.get(way[way.len() - 1]) {
                        way.push(before);
                    }
                    way.reverse();
                    return Some(way);
                }
                if !came_from.contains_key(import) {
                    came_from.insert(import, module);
                    next.push(import);
                }
            }
        }
        front = next;
    }
    None
}

/// What a file names of the other files of its crate.
fn imports<'m>(
    module: &Module,
    text: &str,
    modules: &'m BTreeMap<Module, &Source>,
) -> BTreeSet<&'m Module> {
    let code = scrub::without_tests(&scrub::code(text));
    let mut found = BTreeSet::new();
    let mut add = |path: &[String]| {
        let Some(place) = absolute(module, path, modules) else { return };
        let longest = (1..=place.len()).rev().find_map(|len| modules.get_key_value(&place[..len]));
        if let Some((import, _)) = longest.filter(|(import, _)| *import != module) {
            found.insert(import);
        }
    };
    let mut rest = code.as_str();
    while let Some(start) = rest.find(|it: char| it.is_alphabetic() || it == '_') {
        rest = &rest[start..];
        let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
        if &rest[..end] == "use" {
            let (tree, behind) = rest[end..].split_once(';').unwrap_or_else(|| (&rest[end..], ""));
            spread(&[], tree, &mut add);
            rest = behind;
        } else {
            let (path, behind) = inline_path(rest);
            // `pub(in crate::a)` says who may see it, and imports nothing.
            let is_visibility = code[..code.len() - rest.len()].ends_with("pub(in ");
            if path.len() > 1 && !is_visibility {
                add(&path);
            }
            rest = behind;
        }
    }
    found
}

/// The path that `code` begins with, and what follows it.
fn inline_path(code: &str) -> (Vec<String>, &str) {
    let mut path = Vec::new();
    let mut rest = code;
    loop {
        let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
        let (segment, behind) = rest.split_at(end);
        rest = behind;
        if segment.is_empty() {
            break;
        }
        path.push(segment.to_owned());
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    (path, rest)
}

/// Calls `add` for each path of a `use` tree.
fn spread(before: &[String], tree: &str, add: &mut impl FnMut(&[String])) {
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, group.rsplit_once('}').map(|(group, _)| group)),
        None => (tree, None),
    };
    let head = head.split(" as ").next().unwrap_or_default();
    let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty());
    let path: Vec<String> = before.iter().cloned().chain(segments.map(ToOwned::to_owned)).collect();
    let Some(group) = group else { return add(&path) };
    let (mut depth, mut start) = (0_usize, 0);
    for (at, character) in group.char_indices().chain([(group.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    spread(&path, &group[start..at], add);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// A path from the crate's root; `None` where it leads out of the crate.
fn absolute(
    module: &Module,
    path: &[String],
    modules: &BTreeMap<Module, &Source>,
) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            let kept = module.len().checked_sub(ups)?;
            Some([&module[..kept], &path[ups..]].concat())
        }
        _ => {
            // A child is named without a word before it.
            let child = [module.as_slice(), std::slice::from_ref(first)].concat();
            modules.contains_key(&child).then(|| [module, path].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_told_once_each() {
        let check = |files: &[(&str, &str)]| {
            let source = |(path, text): &(&str, &str)| Source {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            };
            let sources: Vec<Source> = files.iter().map(source).collect();
            check(&sources).into_iter().map(|it| it.what).collect::<Vec<_>>()
        };
        for (files, told) in [
            (&[("crates/c/src/a.rs", "use crate::b::X;"), ("crates/c/src/b.rs", "")][..], None),
            (
                &[
                    ("crates/c/src/a.rs", "use crate::b::X;"),
                    ("crates/c/src/b.rs", "use crate::a::Y;"),
                ],
                Some("a → b → a"),
            ),
            (
                &[
                    ("crates/c/src/a.rs", "use crate::{b::{self, X}, d};"),
                    ("crates/c/src/b.rs", "fn f(_: &super::a::Y) {}"),
                ],
                Some("a → b → a"),
            ),
            (
                &[
                    ("crates/c/src/a.rs", "mod b;\nuse b::X;"),
                    ("crates/c/src/a/b.rs", "use super::Y;"),
                ],
                Some("a → a::b → a"),
            ),
            (&[("crates/c/src/a.rs", "mod b;"), ("crates/c/src/a/b.rs", "use super::Y;")], None),
            (
                &[
                    ("crates/c/src/a.rs", "use crate::b::X;"),
                    ("crates/c/src/b.rs", "use crate::d::X;"),
                    ("crates/c/src/d.rs", "fn f() { crate::a::g() }"),
                ],
                Some("a → b → d → a"),
            ),
            (
                &[
                    ("crates/c/src/a.rs", "use crate::a::b::X;"),
                    ("crates/c/src/a/b.rs", "pub(in crate::a) struct X;"),
                ],
                None,
            ),
            // The front page, another crate, comments, strings and tests are no imports.
            (
                &[
                    ("crates/c/src/lib.rs", "pub use a::X;"),
                    ("crates/c/src/a.rs", "use crate::b::X; use crate::Y;"),
                    (
                        "crates/c/src/b.rs",
                        "// crate::a::X\nlet s = \"crate::a\";\n#[cfg(test)]\nmod tests { use crate::a::X; }",
                    ),
                    ("crates/d/src/b.rs", "use crate::a::Y;"),
                ],
                None,
            ),
        ] {
            let expected: Vec<String> =
                told.map(|it| format!("imports run in a circle: {it}")).into_iter().collect();
            assert_eq!(check(files), expected, "{files:?}");
        }
    }
}
