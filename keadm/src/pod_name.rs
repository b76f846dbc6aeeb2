//! The name of a pod as a person types it.
//!
//! Owns: what may be in it, as it goes into the path of a request.
//! Called by: the commands that take pods, here and on the node.
//! Never: looks whether there is such a pod.

use crate::errors::{CommandError, Kind};

/// A pod's name: what goes into a path, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodName {
    /// From the command line: `web`, or `pod/web`.
    ///
    /// # Errors
    /// When it is no name.
    pub fn read(text: &str, namespace: &str) -> Result<Self, CommandError> {
        let name = match text.split_once('/') {
            Some(("pod" | "pods" | "po", name)) => name,
            Some((kind, _)) => {
                return Err(CommandError::new(Kind::Usage, format!("`{kind}` is no pod"))
                    .hint("write `pod/NAME`, or only NAME"));
            }
            None => text,
        };
        let plain = |part: &str| {
            let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            !part.is_empty() && part.len() <= 253 && part.chars().all(ok)
        };
        for part in [name, namespace] {
            if !plain(part) {
                let text = format!("`{part}` cannot be the name of a pod or namespace");
                return Err(CommandError::new(Kind::Usage, text));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_as_kubectl_names_it_and_nothing_else_gets_into_a_path() {
        let pod = PodName::read("pod/web-1", "default").unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("default", "web-1"));
        assert_eq!(PodName::read("web", "a").unwrap().name, "web");
        for (name, namespace) in
            [("node/x", "a"), ("../x", "a"), ("a b", "a"), ("", "a"), ("x", "a/b"), ("x?y", "a")]
        {
            assert_eq!(PodName::read(name, namespace).unwrap_err().kind, Kind::Usage, "{name}");
        }
    }
}
