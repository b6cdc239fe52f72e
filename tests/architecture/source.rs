//! The sources, as files and as code without comments, texts and tests.

use std::path::{Path, PathBuf};

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `dir` whose name ends in one of `endings`, by path from the top; built and fetched things left out.
pub fn files_below(dir: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    let mut names: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    names
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", ".git", "__pycache__"];
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if NOT_OURS.iter().any(|skipped| name == *skipped) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// A file's text.
pub fn read(name: &str) -> String {
    let bytes = std::fs::read(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Rust without what only people read: comments and the insides of texts become spaces, lines stay where they are.
pub fn code(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, keep) = token(rest, blanked.chars().next_back());
        let (piece, after) = rest.split_at(length);
        for letter in piece.chars() {
            blanked.push(if keep || letter == '\n' { letter } else { ' ' });
        }
        rest = after;
    }
    blanked
}

/// The length of what `rest` starts with, and whether it is code.
fn token(rest: &str, before: Option<char>) -> (usize, bool) {
    let first = rest.chars().next().unwrap();
    let starts_word = !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), false);
    }
    if starts_word && let Some(length) = raw_text(rest) {
        return (length, false);
    }
    if first == '"' {
        return (quoted(rest), false);
    }
    if first == '\''
        && let Some(length) = character(rest)
    {
        return (length, false);
    }
    (first.len_utf8(), true)
}

fn raw_text(rest: &str) -> Option<usize> {
    let start = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    let inside = start.get(hashes..)?.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = inside.find(&close)?;
    Some(rest.len() - inside.len() + end + close.len())
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character such as `'"'` or `'\''`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut letters = rest.char_indices().skip(1);
    let (_, first) = letters.next()?;
    if first == '\\' {
        letters.next()?;
        return letters
            .find(|(_, letter)| *letter == '\'')
            .map(|(at, _)| at + 1);
    }
    letters
        .next()
        .filter(|(_, letter)| *letter == '\'')
        .map(|(at, _)| at + 1)
}

/// [`code`] without `#[cfg(test)] mod … { … }`.
pub fn code_without_tests(text: &str) -> String {
    let mut rest = code(text);
    while let Some(start) = rest.find("#[cfg(test)]") {
        let end = item_end(&rest, start);
        let blank: String = rest[start..end]
            .chars()
            .map(|letter| if letter == '\n' { '\n' } else { ' ' })
            .collect();
        rest.replace_range(start..end, &blank);
    }
    rest
}

/// Where the item that starts at `start` ends: after its `;` or its closing brace.
pub fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code[start..].char_indices() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return start + at + 1;
                }
            }
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The names of all functions of `code`, with where each starts.
pub fn functions(code: &str) -> Vec<(String, usize)> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices("fn ")
        .filter(|(at, _)| !code[..*at].chars().next_back().is_some_and(is_word))
        .map(|(at, word)| {
            let name = &code[at + word.len()..];
            let name: String = name.chars().take_while(|letter| is_word(*letter)).collect();
            (name, at)
        })
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

#[test]
fn comments_texts_and_tests_are_no_code() {
    let text = "let a = \"fn b\"; // fn c\nlet d = '\"'; fn e<'f>() {}\nlet g = r#\"\"fn h\"\"#;\n\
                #[cfg(test)]\nmod tests { fn i() { let j = '}'; } }\nfn k() {}";
    let code = code_without_tests(text);
    let names: Vec<_> = functions(&code).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["e", "k"]);
    assert_eq!(code.lines().count(), text.lines().count());
}
