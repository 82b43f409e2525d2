//! `WWW-Authenticate` challenges (RFC 9110 §11.6.1) as registries send them.

/// One challenge: a scheme with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case: `bearer` or `basic`.
    pub scheme: String,
    /// Parameters in order, names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// Parses a header value that may hold several challenges. What is malformed ends the list.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let word_len = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if word_len == 0 {
            break;
        }
        let (word, after) = rest.split_at(word_len);
        let trimmed = after.trim_start();
        if let Some(value) = trimmed.strip_prefix('=').filter(|_| !challenges.is_empty()) {
            let Some((value, tail)) = take_value(value.trim_start()) else {
                break;
            };
            if let Some(current) = challenges.last_mut() {
                current.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = tail;
        } else {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_registries_send() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let parsed = parse(header);
        assert_eq!(parsed.len(), 1);
        assert_eq!(parsed[0].get("realm"), Some("https://auth.example/token"));
        assert_eq!(parsed[0].get("scope"), Some("repository:a/b:pull,push"));
        let two = parse(r#"Basic realm="a \"quoted\" one", Bearer realm=x"#);
        assert_eq!(two[0].get("realm"), Some("a \"quoted\" one"));
        assert_eq!(
            (two[1].scheme.as_str(), two[1].get("realm")),
            ("bearer", Some("x"))
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
