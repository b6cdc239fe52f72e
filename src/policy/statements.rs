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
