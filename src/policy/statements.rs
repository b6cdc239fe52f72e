//! Cuts a Cedar file into its policies, so that each is judged alone and has a line.

use super::mistake::Source;

/// One policy as written, from its first annotation or keyword to its semicolon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement<'a> {
    pub(super) source: Source<'a>,
    pub(super) offset: usize,
    pub(super) text: &'a str,
}

impl Statement<'_> {
    /// `policies/shop.cedar:12`
    pub(super) fn place(&self) -> String {
        let (line, _) = self.source.place(self.offset);
        format!("{}:{line}", self.source.file)
    }
}

/// The longest policy, in bytes, the deepest nesting of brackets and the most `if`s in one. Cedar parses recursively:
/// what is longer could exhaust the stack, and each level of `if` doubles the work of validation.
pub(super) const LONGEST: usize = 8 * 1024;
pub(super) const DEEPEST: usize = 16;

impl Statement<'_> {
    /// Whether it keeps to these bounds. Brackets and `if`s in strings and comments count too.
    pub(super) fn is_bearable(&self) -> bool {
        let (mut depth, mut deepest) = (0_usize, 0);
        for byte in self.text.bytes() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        let words = self
            .text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ifs = words.filter(|word| *word == "if").count();
        self.text.len() <= LONGEST && deepest <= DEEPEST && ifs <= DEEPEST
    }
}

/// The policies of a file. What follows the last semicolon, if anything, is a last, unfinished one.
pub(super) fn split(source: Source<'_>) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut start = None;
    let mut bytes = source.text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {}
            }
            b'"' => {
                start.get_or_insert(at);
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b';' => {
                let from = start.take().unwrap_or(at);
                statements.extend(statement(source, from, at + 1));
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                start.get_or_insert(at);
            }
        }
    }
    if let Some(from) = start {
        statements.extend(statement(source, from, source.text.len()));
    }
    statements
}

fn statement(source: Source<'_>, from: usize, to: usize) -> Option<Statement<'_>> {
    let text = source.text.get(from..to)?;
    Some(Statement {
        source,
        offset: from,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_do_not_end_a_policy() {
        let text = "// a; \"b\n@id(\"x;\\\";\")\npermit (principal, action, resource); // ; \n\n forbid(;permit";
        let source = Source {
            file: "p.cedar",
            text,
        };
        let found: Vec<_> = split(source).iter().map(|s| (s.place(), s.text)).collect();
        assert_eq!(
            found,
            [
                (
                    "p.cedar:2".to_owned(),
                    "@id(\"x;\\\";\")\npermit (principal, action, resource);"
                ),
                ("p.cedar:5".to_owned(), "forbid(;"),
                ("p.cedar:5".to_owned(), "permit"),
            ]
        );
    }
}
