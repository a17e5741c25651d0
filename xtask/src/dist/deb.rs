//! The Debian package: `docs/deploy/debian/` has its control file and its scripts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::cmd;

use super::parts::{Parts, write};

const UNITS: &str = "usr/lib/systemd/system";
const DOC: &str = "usr/share/doc/wserver";

pub(super) fn make(parts: &Parts<'_>, folder: &Path) -> anyhow::Result<PathBuf> {
    let sh = &parts.project.sh;
    let root = folder.join("deb");
    write(&root.join("usr/bin/wserver"), fs::read(&parts.binary)?, 0o755)?;
    write(&root.join("etc/wserver/wserver.toml"), &parts.settings, 0o644)?;
    parts.copy_all("docs/deploy/systemd", &root.join(UNITS))?;
    for (file, page) in &parts.man {
        write(&root.join("usr/share/man/man1").join(file), page, 0o644)?;
    }
    for (shell, script) in &parts.completions {
        let place = match *shell {
            "bash" => "bash-completion/completions/wserver",
            "fish" => "fish/vendor_completions.d/wserver.fish",
            _ => "zsh/vendor-completions/_wserver",
        };
        write(&root.join("usr/share").join(place), script, 0o644)?;
    }
    let doc = root.join(DOC);
    write(&doc.join("copyright"), copyright(parts)?, 0o644)?;
    parts.copy("README.md", &doc.join("README.md"))?;
    parts.copy("CHANGELOG.md", &doc.join("CHANGELOG.md"))?;
    for page in ["configuration", "operations", "protocol", "security"] {
        let file = format!("{page}.md");
        parts.copy(&format!("docs/{file}"), &doc.join("docs").join(file))?;
    }
    for examples in ["grafana", "prometheus", "proxies"] {
        let place = doc.join("examples").join(examples);
        parts.copy_all(&format!("docs/deploy/{examples}"), &place)?;
    }
    // `--no-name` leaves out the time of the compression.
    let pages = root.join("usr/share/man/man1");
    let compressed = parts.man.iter().map(|(file, _)| pages.join(file));
    cmd!(sh, "gzip -9 --no-name {compressed...}").quiet().run()?;

    let architecture = architecture(&parts.target)?;
    control(parts, &root, architecture)?;
    let deb = folder.join(format!("wserver_{}_{architecture}.deb", parts.version));
    let make = cmd!(sh, "dpkg-deb --root-owner-group -Zxz --build {root} {deb}");
    make.env("SOURCE_DATE_EPOCH", &parts.epoch).run()?;
    sh.remove_path(&root)?;
    Ok(deb)
}

fn control(parts: &Parts<'_>, root: &Path, architecture: &str) -> anyhow::Result<()> {
    let sh = &parts.project.sh;
    let package = parts.project.metadata.members().find(|it| it.name == "wserver");
    let homepage =
        package.and_then(|it| it.repository.clone()).context("no repository is named")?;
    let kilobytes = cmd!(sh, "du --summarize --apparent-size --block-size=1024 {root}").quiet();
    let kilobytes = kilobytes.read()?;
    let kilobytes = kilobytes.split_whitespace().next().context("du says nothing")?;
    let binary = fs::read(&parts.binary)?;
    let glibc = glibc(&binary).context("the binary asks for no version of glibc")?;
    let places = [
        ("{version}", parts.version.as_str()),
        ("{architecture}", architecture),
        ("{homepage}", &homepage),
        ("{kilobytes}", kilobytes),
        ("{glibc}", &format!("2.{glibc}")),
    ];
    let template = fs::read_to_string(parts.project.root.join("docs/deploy/debian/control"))?;
    let control = places.iter().fold(template, |text, (place, value)| text.replace(place, value));
    let files = {
        let _here = sh.push_dir(root);
        cmd!(sh, "find etc usr -type f").quiet().read()?
    };
    let sums = {
        let _here = sh.push_dir(root);
        let mut files: Vec<&str> = files.lines().collect();
        files.sort_unstable();
        cmd!(sh, "md5sum {files...}").quiet().read()?
    };
    let folder = root.join("DEBIAN");
    write(&folder.join("control"), control, 0o644)?;
    write(&folder.join("conffiles"), "/etc/wserver/wserver.toml\n", 0o644)?;
    write(&folder.join("md5sums"), format!("{sums}\n"), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = fs::read(parts.project.root.join("docs/deploy/debian").join(script))?;
        write(&folder.join(script), text, 0o755)?;
    }
    Ok(())
}

/// Debian's name of the architecture.
fn architecture(target: &str) -> anyhow::Result<&'static str> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => anyhow::bail!("no Debian name for {target} is known here"),
    }
}

/// The newest version of glibc whose symbols the binary names, such as 36 for 2.36.
fn glibc(binary: &[u8]) -> Option<u32> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let found = binary.windows(PREFIX.len() + 3).filter_map(|window| {
        let digits = window.strip_prefix(PREFIX)?;
        let end = digits.iter().position(|it| !it.is_ascii_digit()).unwrap_or(digits.len());
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    });
    found.max()
}

fn copyright(parts: &Parts<'_>) -> anyhow::Result<String> {
    let mit = fs::read_to_string(parts.project.root.join("LICENSE-MIT"))?;
    let owner = mit.lines().find_map(|it| it.strip_prefix("Copyright (c) "));
    // This format indents a licence, and writes an empty line as a full stop.
    let terms: Vec<String> = mit
        .lines()
        .skip_while(|it| !it.starts_with("Permission"))
        .map(|it| if it.is_empty() { " .".to_owned() } else { format!(" {it}") })
        .collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: wserver\n\n\
         Files: *\nCopyright: {}\nLicense: Expat or Apache-2.0\n\n\
         License: Expat\n{}\n\n\
         License: Apache-2.0\n On Debian systems it is in /usr/share/common-licenses/Apache-2.0.\n",
        owner.context("LICENSE-MIT names nobody")?,
        terms.join("\n"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_counts() {
        for (binary, newest) in [
            (&b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0..."[..], Some(34)),
            (b"GLIBC_2.\0....", None),
            (b"", None),
        ] {
            assert_eq!(glibc(binary), newest);
        }
    }
}
