//! The documents: every link leads somewhere, every page can be reached from the README, and the code they name exists.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};

use super::source::{files_below, read, root};

/// Targets of the Markdown links of `text` that are files of ours, without their anchors.
fn links(text: &str) -> Vec<String> {
    text.match_indices("](")
        .filter_map(|(at, opening)| text[at + opening.len()..].split(')').next())
        .filter(|target| {
            !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
        })
        .map(|target| target.split('#').next().unwrap().to_owned())
        .collect()
}

/// `target` as seen from the directory of `file`, by path from the top.
fn resolve(file: &str, target: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(file).parent().unwrap().join(target).components() {
        match part {
            Component::ParentDir => {
                assert!(path.pop(), "{file} links above the repository: {target}")
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.display().to_string()
}

fn pages() -> Vec<String> {
    files_below("", &[".md"])
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        for target in links(&read(&page)) {
            if !root().join(resolve(&page, &target)).exists() {
                wrong.push(format!("{page} links to {target}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut queue = VecDeque::from(["README.md".to_owned()]);
    while let Some(page) = queue.pop_front() {
        for target in links(&read(&page)) {
            let target = resolve(&page, &target);
            if reached.insert(target.clone())
                && target.ends_with(".md")
                && root().join(&target).exists()
            {
                queue.push_back(target);
            }
        }
    }
    let lost: Vec<_> = files_below("docs", &[""])
        .into_iter()
        .filter(|file| !reached.contains(file))
        .collect();
    assert!(lost.is_empty(), "no link leads from README.md to {lost:?}");
}

#[test]
fn the_code_that_the_architecture_page_names_exists() {
    let page = read("docs/architecture.md");
    let mut wrong = Vec::new();
    for name in page.split('`').skip(1).step_by(2) {
        let mut parts = name.split("::");
        let (Some(module), Some(last)) = (parts.next(), parts.last()) else {
            continue;
        };
        if !root().join("src").join(module).exists()
            && !root().join(format!("src/{module}.rs")).exists()
        {
            wrong.push(format!("{name}: there is no module {module}"));
        } else if !defined(module, last.trim_end_matches("()")) {
            wrong.push(format!("{name}: {module} defines no {last}"));
        }
    }
    for file in page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.starts_with("src/") || name.starts_with("tests/"))
    {
        if !root().join(file).exists() {
            wrong.push(format!("{file} is not there"));
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/architecture.md:\n{}",
        wrong.join("\n")
    );
}

/// Whether some file of `module` defines `name`: an item, or a variant on a line of its own.
fn defined(module: &str, name: &str) -> bool {
    let mut files = vec![format!("src/{module}.rs")];
    if root().join("src").join(module).is_dir() {
        files = files_below(&format!("src/{module}"), &[".rs"]);
    }
    let items = ["fn", "struct", "enum", "trait", "mod", "const", "type"];
    files.iter().any(|file| {
        read(file).lines().map(str::trim).any(|line| {
            let mut words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            let starts = words.clone().next() == Some(name);
            words.any(|word| items.contains(&word)) && line_defines(line, name, &items)
                || starts
                    && line
                        .trim_start_matches(name)
                        .starts_with([',', '(', ' ', '{'])
        })
    })
}

fn line_defines(line: &str, name: &str, items: &[&str]) -> bool {
    items.iter().any(|item| {
        line.split_once(&format!("{item} "))
            .is_some_and(|(_, after)| {
                after.strip_prefix(name).is_some_and(|rest| {
                    !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
                })
            })
    })
}
