//! Query parameters and the representation of lists and watches (`ListOptions` of
//! `k8s.io/apimachinery/pkg/apis/meta/v1`).

use std::time::Duration;

use super::{release::Release, status::Status};

#[derive(Debug, Default, PartialEq)]
pub(super) struct ListOptions {
    pub(super) limit: Option<usize>,
    pub(super) continue_token: String,
    /// `None` is the most recent version, `Some(0)` any version.
    pub(super) resource_version: Option<u64>,
    pub(super) is_exact: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) bookmarks: bool,
    pub(super) send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Parses a query. `verb` is `list` or `watch`.
    pub(super) fn parse(query: &str, verb: &str, release: Release) -> Result<Self, Status> {
        let invalid = |problem: &str| Status::invalid_list_options(problem);
        let mut options = Self::default();
        let mut version_match = "";
        for (key, value) in pairs(query).filter(|(_, value)| !value.is_empty()) {
            let number = || {
                let error = |_| Status::bad_request(format!("{key}: Invalid value: {value:?}"));
                value.parse::<u64>().map_err(error)
            };
            match key {
                "limit" => options.limit = usize::try_from(number()?).ok().filter(|&n| n > 0),
                "continue" => options.continue_token = value.to_owned(),
                "resourceVersion" => options.resource_version = Some(number()?),
                "resourceVersionMatch" => version_match = value,
                "timeoutSeconds" => options.timeout = Some(Duration::from_secs(number()?)),
                "allowWatchBookmarks" => options.bookmarks = is_true(value),
                // Added in 1.27; an older server ignores a parameter that it does not know.
                "sendInitialEvents" if release != Release::V1_20 => {
                    options.send_initial_events = Some(is_true(value));
                }
                "fieldSelector" | "labelSelector" => {
                    let message = "the embedded cluster does not implement selectors";
                    return Err(Status::bad_request(message));
                }
                _ => {}
            }
        }
        options.is_exact = version_match == "Exact";
        if verb == "watch" {
            return match (options.send_initial_events, version_match) {
                (None, "") | (Some(_), "NotOlderThan") => Ok(options),
                (None, _) if release == Release::V1_20 => Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch",
                )),
                (None, _) => Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch \
                     unless sendInitialEvents is provided",
                )),
                (Some(_), _) => Err(invalid(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
                     resourceVersionMatch to NotOlderThan",
                )),
            };
        }
        if options.send_initial_events.is_some() {
            return Err(invalid(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        Ok(options)
    }
}

/// Whether the query asks for a watch.
pub(super) fn is_watch(query: &str) -> bool {
    pairs(query).any(|(key, value)| key == "watch" && is_true(value))
}

/// Values are not decoded: none that is read here contains a character that must be escaped.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Everything but `false` and `0` is true (`Convert_Slice_string_To_bool`).
fn is_true(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_parsed_as_in_kubernetes() {
        let parse = |query, verb, release| {
            ListOptions::parse(query, verb, release).map_err(|status| status.code.as_u16())
        };
        let paged = parse("limit=2&resourceVersion=7&limit2=3", "list", Release::V1_36).unwrap();
        assert_eq!((paged.limit, paged.resource_version), (Some(2), Some(7)));
        let whole = parse("limit=0&resourceVersion=", "list", Release::V1_36).unwrap();
        assert_eq!(whole, ListOptions::default());
        let streamed = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let initial = parse(streamed, "watch", Release::V1_36).unwrap().send_initial_events;
        assert_eq!(initial, Some(true));
        for (query, verb, code) in [
            ("limit=x", "list", 400),
            ("resourceVersion=-1", "watch", 400),
            ("labelSelector=a", "list", 400),
            ("sendInitialEvents=true", "list", 422),
            ("sendInitialEvents=true", "watch", 422),
            ("resourceVersionMatch=NotOlderThan", "watch", 422),
        ] {
            assert_eq!(parse(query, verb, Release::V1_36), Err(code), "{query}");
        }
        assert_eq!(parse(streamed, "watch", Release::V1_20), Err(422));
    }

    #[test]
    fn a_watch_is_a_list_with_a_true_parameter() {
        for (query, expected) in [
            ("watch=true", true),
            ("a=b&watch=1", true),
            ("watch=false", false),
            ("watch=0", false),
            ("", false),
            ("unwatch=1", false),
        ] {
            assert_eq!(is_watch(query), expected, "{query}");
        }
    }
}
