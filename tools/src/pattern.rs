//! Patterns of names: `*` stands for any characters, `?` for one.

/// Whether a name fits one of several patterns; without patterns every name does.
pub(crate) fn fits_any(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, name))
}

/// Whether a text names many segments rather than one.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where to go on after the last star, if what follows it does not fit.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, in_name));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (at, in_name) = (after, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let fit =
            [("camera", "camera"), ("cam*", "camera"), ("*era", "camera"), ("c?m*a", "camera")];
        for (pattern, name) in fit.into_iter().chain([("*", ""), ("**", "x"), ("*aab", "aaab")]) {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("cam", "camera"), ("?", ""), ("*x", "camera"), ("", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
