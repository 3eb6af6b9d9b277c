//! The syntax of names, labels and port names. Each check says what would be right.

/// What a piece of text must look like.
pub(super) type Syntax = fn(&str) -> Result<(), &'static str>;

/// A DNS-1123 label, such as a namespace's name.
pub(super) fn dns_label(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("at most 63 characters are allowed");
    }
    if is_dns_word(text) {
        return Ok(());
    }
    Err(
        "it must consist of lower case letters, digits and \"-\", and begin and end with a letter or digit",
    )
}

/// A DNS-1123 subdomain, such as most objects' names (NP-V-1).
pub(super) fn dns_subdomain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("at most 253 characters are allowed");
    }
    if text.split('.').all(is_dns_word) {
        return Ok(());
    }
    Err(
        "it must consist of lower case letters, digits, \"-\" and \".\", and each part between dots must begin and end with a letter or digit",
    )
}

/// A label key: a name, in front of which a DNS subdomain and a slash may stand (NP-V-4, NP-V-8).
pub(super) fn label_key(text: &str) -> Result<(), &'static str> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|_| {
                "the part before the \"/\" must be a DNS name in lower case of at most 253 characters"
            })?;
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Err("the name of a label must not be empty");
    }
    if name.len() > 63 {
        return Err("the name of a label has at most 63 characters, its prefix not counted");
    }
    if is_label_word(name) {
        return Ok(());
    }
    Err(
        "the name of a label must consist of letters, digits, \"-\", \"_\" and \".\", and begin and end with a letter or digit",
    )
}

/// A label value, which may be empty (NP-V-4, NP-V-9).
pub(super) fn label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("the value of a label has at most 63 characters");
    }
    if text.is_empty() || is_label_word(text) {
        return Ok(());
    }
    Err(
        "the value of a label must consist of letters, digits, \"-\", \"_\" and \".\", and begin and end with a letter or digit, or be empty",
    )
}

/// The name of a port (NP-V-19).
pub(super) fn port_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 15 {
        return Err("the name of a port has 1 to 15 characters");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the name of a port needs a letter; write a port number without quotes");
    }
    if !text.bytes().all(|byte| is_dns_byte(byte) || byte == b'-') {
        return Err("the name of a port must consist of lower case letters, digits and \"-\"");
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("the name of a port needs a letter");
    }
    if text.contains("--") {
        return Err("the name of a port must not have two \"-\" side by side");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("the name of a port must not begin or end with \"-\"");
    }
    Ok(())
}

/// A domain name of at least two labels, or `*.` and such a name (C-V-21).
///
/// It follows the pattern of the CRD to the letter: its `A-z`, meant to be `A-Z`, also takes in the six characters
/// between `Z` and `a` at the beginning of a label.
pub(super) fn domain_name(text: &str) -> Result<(), &'static str> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.contains('.') && name.split('.').all(is_domain_label) {
        return Ok(());
    }
    Err(
        "a domain name such as \"example.com\" is needed, or \"*.example.com\" for all names below it; a \"*\" can only be the whole first label",
    )
}

fn is_domain_label(label: &str) -> bool {
    match label.as_bytes() {
        [first, rest @ ..] => {
            (matches!(first, b'A'..=b'z') || first.is_ascii_digit())
                && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
                && rest.last().is_none_or(u8::is_ascii_alphanumeric)
        }
        [] => false,
    }
}

fn is_dns_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_word(word: &str) -> bool {
    is_word(word.as_bytes(), is_dns_byte, b"-")
}

fn is_label_word(word: &str) -> bool {
    is_word(word.as_bytes(), |byte| byte.is_ascii_alphanumeric(), b"-_.")
}

/// Whether `word` begins and ends with a `plain` byte and has nothing else but `inner` ones between.
fn is_word(word: &[u8], plain: fn(u8) -> bool, inner: &[u8]) -> bool {
    match word {
        [] => false,
        [only] => plain(*only),
        [first, middle @ .., last] => {
            plain(*first)
                && plain(*last)
                && middle.iter().all(|byte| plain(*byte) || inner.contains(byte))
        }
    }
}
