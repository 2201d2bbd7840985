//! How long source files are, tests left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lines, beyond which a file is named.
pub const LONG: usize = 400;

/// Rust files of the workspace that are too long, the longest first, relative to its root.
pub fn long_files(root: &Path) -> io::Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    visit(root, &mut |path| {
        let lines = lines_without_tests(&fs::read_to_string(path)?);
        if lines > LONG {
            files.push((path.strip_prefix(root).unwrap_or(path).to_owned(), lines));
        }
        Ok(())
    })?;
    files.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    Ok(files)
}

/// Every Rust file that is not a test as a whole: tests.rs, and the tests folder of a crate.
fn visit(directory: &Path, each: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_crate_folder = path.join("Cargo.toml").is_file();
        if path.is_dir() {
            let skipped = name.starts_with('.') || name == "target" || (name == "tests" && !is_crate_folder);
            if !skipped {
                visit(&path, each)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            each(&path)?;
        }
    }
    Ok(())
}

/// Tests stand last in a file, behind the attribute.
fn lines_without_tests(source: &str) -> usize {
    source.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        assert_eq!(lines_without_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("    #[cfg(test)]\n    fn within() {}\n"), 2);
    }

    #[test]
    fn no_file_of_tests_and_nothing_of_others_is_visited() {
        let mut seen = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        visit(root, &mut |path| {
            seen.push(path.strip_prefix(root).expect("it is below the root").to_owned());
            Ok(())
        })
        .expect("the folder is readable");
        assert!(seen.contains(&PathBuf::from("src/main.rs")));
        assert!(!seen.iter().any(|path| path.ends_with("tests.rs")));
    }
}
