//! Reads Rust as text: which paths a file mentions, outside of comments, literals and tests.

/// One path as written, with groups and `crate`, `self` and `super` resolved.
#[derive(Clone, Debug)]
pub struct Mention {
    pub line: usize,
    /// Inside this crate it starts with `crate`.
    pub path: Vec<String>,
    pub alias: Option<String>,
}

/// One file of `src/`: its path below the repository and what it mentions.
pub struct Source {
    pub file: String,
    /// `["store", "codec"]` for `src/store/codec.rs`; empty for `lib.rs`.
    pub module: Vec<String>,
    pub mentions: Vec<Mention>,
}

/// Reads files given as (path such as `src/store/mod.rs`, text); those that are tests are left out.
pub fn read_sources(files: &[(&str, &str)]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut test_modules: Vec<Vec<String>> = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let (tokens, tests) = without_tests(tokens_of(text));
        test_modules.extend(tests.into_iter().map(|name| [module.clone(), vec![name]].concat()));
        let mentions = mentions_of(&tokens, &module);
        sources.push(Source { file: (*file).to_owned(), module, mentions });
    }
    sources.retain(|source| !test_modules.iter().any(|tests| source.module.starts_with(tests)));
    sources
}

/// `src/store/codec.rs` is `["store", "codec"]`, `src/store/mod.rs` is `["store"]`, `src/lib.rs` is `[]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

// ---- Tokens -------------------------------------------------------------------------------------------------------

/// A name, or one character that is not part of one (`::` is two).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// The tokens of a Rust text without comments, lifetimes and the insides of strings and characters.
fn tokens_of(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['\'', ..] => character_or_lifetime(rest),
            ['r', '"' | '#', ..] if raw_string(rest).is_some() => raw_string(rest).unwrap(),
            ['b' | 'c', 'r', '"' | '#', ..] if raw_string(&rest[1..]).is_some() => 1 + raw_string(&rest[1..]).unwrap(),
            [first, ..] if first.is_alphabetic() || *first == '_' => {
                let length = rest.iter().position(|c| !c.is_alphanumeric() && *c != '_').unwrap_or(rest.len());
                tokens.push(Token { line, text: rest[..length].iter().collect() });
                length
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(Token { line, text: first.to_string() });
                }
                1
            }
            [] => break,
        };
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    tokens
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn character_or_lifetime(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, tail @ ..] => 3 + tail.iter().position(|c| *c == '\'').map_or(0, |end| end + 1),
        ['\'', _, '\'', ..] => 3,
        _ => 1 + rest[1..].iter().position(|c| !c.is_alphanumeric() && *c != '_').unwrap_or(rest.len() - 1),
    }
}

/// The length of `r"..."` or `r#"..."#`, `None` when it is not a raw string (but `r#type`).
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = hashes + 2;
    let inside = rest[start..].windows(closing.len()).position(|part| part == closing.as_slice());
    Some(inside.map_or(rest.len(), |inside| start + inside + closing.len()))
}

/// Leaves out each item under `#[cfg(test)]`, and names the modules among them that live in a file of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let marked =
            tokens.len() - at >= MARK.len() && tokens[at..].iter().zip(MARK).all(|(token, mark)| token.text == mark);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let (start, mut depth) = (at, 0);
        while at < tokens.len() {
            let text = tokens[at].text.as_str();
            depth += i32::from(matches!(text, "{" | "(" | "[")) - i32::from(matches!(text, "}" | ")" | "]"));
            at += 1;
            if depth == 0 && matches!(text, "}" | ";") {
                break;
            }
        }
        let item: Vec<&str> = tokens[start..at].iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = item.as_slice() {
            modules.push((*name).to_owned());
        }
    }
    (kept, modules)
}

// ---- Paths --------------------------------------------------------------------------------------------------------

/// Every path in these tokens; `module` is where they stand.
fn mentions_of(tokens: &[Token], module: &[String]) -> Vec<Mention> {
    let mut mentions = Vec::new();
    // Modules written in braces, with the depth they were opened at.
    let (mut inline, mut depth, mut at): (Vec<(String, usize)>, usize, usize) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|(_, opened)| *opened < depth);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                inline.push((tokens[at + 1].text.clone(), depth));
                at += 1;
            }
            text if is_name(text) => {
                let mut here: Vec<String> = module.to_vec();
                here.extend(inline.iter().map(|(name, _)| name.clone()));
                let mut found = Vec::new();
                at = path_tree(tokens, at, &[], &mut found);
                mentions.extend(found.into_iter().map(|mention| resolve(mention, &here)));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    mentions
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !matches!(text, "use" | "mod" | "as" | "pub")
}

/// Reads `a::b`, `a::{b, c::d}`, `a::*` or `a as b` from `at` on; gives the place after it.
fn path_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Mention>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens[at].line;
    let mut path = prefix.to_vec();
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while at < tokens.len() && text(at) != "}" {
                    if is_name(text(at)) || matches!(text(at), "{" | "*") {
                        at = path_tree(tokens, at, &path, found);
                    } else {
                        at += 1;
                    }
                }
                return at + 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
        if !(text(at) == ":" && text(at + 1) == ":" && (is_name(text(at + 2)) || matches!(text(at + 2), "{" | "*"))) {
            break;
        }
        at += 2;
    }
    let alias = (text(at) == "as" && is_name(text(at + 1))).then(|| text(at + 1).to_owned());
    found.push(Mention { line, path, alias });
    at
}

/// Turns `self`, `super` and the crate's own name at the front of a path into `crate::...`.
fn resolve(mut mention: Mention, here: &[String]) -> Mention {
    let supers = mention.path.iter().take_while(|name| *name == "super").count();
    let first = mention.path.first().map_or("", String::as_str);
    if supers > 0 {
        let above = &here[..here.len().saturating_sub(supers)];
        let inner = mention.path.split_off(supers);
        mention.path = [vec!["crate".to_owned()], above.to_vec(), inner].concat();
    } else if first == "self" && mention.path.len() > 1 {
        let inner = mention.path.split_off(1);
        mention.path = [vec!["crate".to_owned()], here.to_vec(), inner].concat();
    } else if first == "metergate" && mention.path.len() > 1 {
        "crate".clone_into(&mut mention.path[0]);
    }
    // `use crate::store::{self, Store}`
    if mention.path.len() > 1 && mention.path.last().is_some_and(|name| name == "self") {
        mention.path.pop();
    }
    mention
}
