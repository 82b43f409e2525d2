//! Names: what a container may be called, and one for those that nobody names.

use crate::{Error, Result};

/// Words of our own; two of them and, after some tries, a digit.
const ADJECTIVES: [&str; 64] = [
    "able", "airy", "amber", "ample", "apt", "arctic", "autumn", "azure", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "clear", "clever", "coastal", "cosy", "crisp", "curious", "daring",
    "deft", "eager", "early", "fair", "fleet", "fond", "gentle", "glad", "golden", "grand", "happy", "hardy",
    "honest", "humble", "ideal", "jolly", "keen", "kind", "lively", "lucid", "lunar", "mellow", "merry",
    "mild", "modest", "nimble", "noble", "patient", "placid", "proud", "quiet", "rapid", "ready", "robust",
    "serene", "silver", "snug", "steady", "sunny", "tidal", "vivid", "warm",
];

/// Surnames of people who moved computing, navigation and shipping on.
const SURNAMES: [&str; 64] = [
    "abbate",
    "allen",
    "babbage",
    "backus",
    "bartik",
    "bell",
    "berezin",
    "berners",
    "blackwell",
    "boole",
    "bowditch",
    "brunel",
    "cerf",
    "church",
    "clarke",
    "codd",
    "conway",
    "cook",
    "dijkstra",
    "eckert",
    "engelbart",
    "estrin",
    "feinler",
    "floyd",
    "gilbreth",
    "goldstine",
    "hamilton",
    "hamming",
    "harrison",
    "hoare",
    "holberton",
    "hopper",
    "huffman",
    "iverson",
    "kahn",
    "karp",
    "kay",
    "kernighan",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "maury",
    "mccarthy",
    "mclean",
    "mercator",
    "milner",
    "nansen",
    "naur",
    "noether",
    "perlman",
    "postel",
    "ritchie",
    "sammet",
    "shannon",
    "spence",
    "sutherland",
    "tarjan",
    "thompson",
    "turing",
    "wilkes",
    "wing",
    "wirth",
];

/// A name nobody has; `taken` says which are.
///
/// # Errors
/// When the kernel gives no random bytes.
pub(crate) fn generate(taken: impl Fn(&str) -> bool) -> Result<String> {
    let mut number = 0_u32;
    loop {
        let mut bytes = [0u8; 2];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::internal("reading random bytes", std::io::Error::from(e)))?;
        let adjective = ADJECTIVES[usize::from(bytes[0]) % ADJECTIVES.len()];
        let surname = SURNAMES[usize::from(bytes[1]) % SURNAMES.len()];
        let name = match number / 8 {
            0 => format!("{adjective}_{surname}"),
            tries => format!("{adjective}_{surname}{tries}"),
        };
        if !taken(&name) {
            return Ok(name);
        }
        number += 1;
    }
}

/// Checks a name that somebody gives, without its leading slash.
///
/// # Errors
/// [`crate::Kind::Invalid`] with Docker's words.
pub(crate) fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bare.len() >= 2 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest {
        return Ok(bare);
    }
    Err(Error::invalid(format!(
        "Invalid container name ({bare}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_free() {
        for _ in 0..50 {
            let name = generate(|_| false).unwrap();
            assert_eq!(check(&name).unwrap(), name);
        }
        let tries = std::cell::Cell::new(0);
        let name = generate(|_| {
            tries.set(tries.get() + 1);
            tries.get() <= 20
        });
        assert!(name.unwrap().ends_with('2'));
    }

    #[test]
    fn wrong_names_are_refused_in_docker_s_words() {
        for bad in ["", "a", "-ab", "a b", "a/b", "ä1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check("/web.1").unwrap(), "web.1");
        let error = check("a b").unwrap_err().to_string();
        assert_eq!(
            error,
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }
}
