//! Label selectors (meta/v1 LabelSelector): what a policy, and later a Service's or an address pool's, picks by label.

use super::{
    meta::Labels,
    wire::{LabelKey, LabelMap, LabelValue, Mapping, or_default},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// "A label selector is a label query over a set of resources. The result of matchLabels and matchExpressions are
/// ANDed. An empty label selector matches all objects."
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "Mapping<Raw>")]
pub struct LabelSelector {
    /// matchLabels: labels that must be there with these values, all of them.
    pub labels: Labels,
    /// matchExpressions, which must hold, all of them.
    pub expressions: Vec<LabelExpression>,
}

/// One entry of matchExpressions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "Mapping<RawExpression>")]
pub struct LabelExpression {
    /// The label it is about.
    pub key: String,
    /// What is asked of the label.
    pub operator: LabelOperator,
}

/// What a [`LabelExpression`] asks of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelOperator {
    /// It is there and one of these values; never none of them.
    In(BTreeSet<String>),
    /// It is absent, or none of these values; never none of them.
    NotIn(BTreeSet<String>),
    /// It is there, with whatever value.
    Exists,
    /// It is absent.
    DoesNotExist,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    #[serde(deserialize_with = "or_default")]
    match_labels: LabelMap,
    #[serde(deserialize_with = "or_default")]
    match_expressions: Vec<LabelExpression>,
}

#[derive(Deserialize)]
struct RawExpression {
    key: LabelKey,
    operator: RawOperator,
    #[serde(default, deserialize_with = "or_default")]
    values: Vec<LabelValue>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum RawOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether it picks what bears `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.matches(labels))
    }

    /// Whether it asks for nothing, and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }

    /// As the API writes it, without what is empty.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        if !self.labels.is_empty() {
            json.insert("matchLabels".to_owned(), json!(self.labels));
        }
        if !self.expressions.is_empty() {
            json.insert("matchExpressions".to_owned(), self.expressions.iter().map(LabelExpression::to_json).collect());
        }
        Value::Object(json)
    }
}

impl From<Mapping<Raw>> for LabelSelector {
    fn from(Mapping(raw): Mapping<Raw>) -> Self {
        Self { labels: raw.match_labels.0, expressions: raw.match_expressions }
    }
}

// === impl LabelExpression ===

impl LabelExpression {
    /// Whether it holds for what bears `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }

    fn to_json(&self) -> Value {
        let mut json = json!({"key": self.key, "operator": self.operator.as_str()});
        if let LabelOperator::In(values) | LabelOperator::NotIn(values) = &self.operator {
            json["values"] = json!(values);
        }
        json
    }
}

impl TryFrom<Mapping<RawExpression>> for LabelExpression {
    type Error = String;

    fn try_from(Mapping(raw): Mapping<RawExpression>) -> Result<Self, String> {
        let RawExpression { key, operator, values } = raw;
        let values: BTreeSet<String> = values.into_iter().map(|value| value.0).collect();
        let operator = match operator {
            RawOperator::In | RawOperator::NotIn if values.is_empty() => {
                return Err(format!("the operator {operator:?} needs values"));
            }
            RawOperator::Exists | RawOperator::DoesNotExist if !values.is_empty() => {
                return Err(format!("the operator {operator:?} takes no values"));
            }
            RawOperator::In => LabelOperator::In(values),
            RawOperator::NotIn => LabelOperator::NotIn(values),
            RawOperator::Exists => LabelOperator::Exists,
            RawOperator::DoesNotExist => LabelOperator::DoesNotExist,
        };
        Ok(Self { key: key.0, operator })
    }
}

// === impl LabelOperator ===

impl LabelOperator {
    /// As the API writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::In(_) => "In",
            Self::NotIn(_) => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        serde_json::from_str(text).expect("labels")
    }

    #[test]
    fn selectors_match_as_the_api_says() {
        // selector, labels, matches
        let rows = [
            ("{}", "{}", true),
            ("{}", r#"{"a": "1"}"#, true),
            (r#"{"matchLabels": null, "matchExpressions": null}"#, "{}", true),
            (r#"{"matchLabels": {}, "matchExpressions": []}"#, r#"{"a": "1"}"#, true),
            (r#"{"matchLabels": {"a": "1"}}"#, r#"{"a": "1", "b": "2"}"#, true),
            (r#"{"matchLabels": {"a": "1"}}"#, r#"{"a": "2"}"#, false),
            (r#"{"matchLabels": {"a": "1"}}"#, "{}", false),
            (r#"{"matchLabels": {"a": ""}}"#, "{}", false),
            (r#"{"matchLabels": {"a": ""}}"#, r#"{"a": ""}"#, true),
            (r#"{"matchLabels": {"a": "1", "b": "2"}}"#, r#"{"a": "1"}"#, false),
            (r#"{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}"#, r#"{"a": "2"}"#, true),
            (r#"{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}"#, r#"{"a": "3"}"#, false),
            (r#"{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}"#, "{}", false),
            (r#"{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}"#, r#"{"a": "1"}"#, false),
            (r#"{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}"#, r#"{"a": "2"}"#, true),
            (r#"{"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}"#, r#"{"b": "1"}"#, true),
            (r#"{"matchExpressions": [{"key": "a", "operator": "Exists"}]}"#, r#"{"a": ""}"#, true),
            (r#"{"matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}"#, "{}", false),
            (r#"{"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}"#, "{}", true),
            (r#"{"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}"#, r#"{"a": "1"}"#, false),
            (
                r#"{"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}"#,
                r#"{"a": "1"}"#,
                false,
            ),
            (
                r#"{"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}"#,
                r#"{"a": "1", "b": "2"}"#,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}, {"key": "a", "operator": "NotIn", "values": ["1"]}]}"#,
                r#"{"a": "1"}"#,
                false,
            ),
        ];
        for (selector, bearer, expected) in rows {
            let parsed: LabelSelector = serde_json::from_str(selector).expect(selector);
            assert_eq!(parsed.matches(&labels(bearer)), expected, "{selector} on {bearer}");
            let again: LabelSelector = serde_json::from_value(parsed.to_json()).expect("what was written is read");
            assert_eq!(again, parsed, "{selector}");
        }
    }

    #[test]
    fn selectors_that_the_api_rejects() {
        let expression = |rest: &str| format!("{{\"matchExpressions\": [{{{rest}}}]}}");
        // selector, what the message says
        let rows = [
            (expression(r#""key": "a", "operator": "In""#), "In needs values"),
            (expression(r#""key": "a", "operator": "In", "values": []"#), "In needs values"),
            (expression(r#""key": "a", "operator": "NotIn", "values": null"#), "NotIn needs values"),
            (expression(r#""key": "a", "operator": "Exists", "values": ["1"]"#), "Exists takes no values"),
            (expression(r#""key": "a", "operator": "DoesNotExist", "values": [""]"#), "DoesNotExist takes no values"),
            (expression(r#""key": "a", "operator": "Gt", "values": ["1"]"#), "unknown variant `Gt`"),
            (expression(r#""key": "a", "operator": "in", "values": ["1"]"#), "unknown variant `in`"),
            (expression(r#""key": "a""#), "missing field `operator`"),
            (expression(r#""operator": "Exists""#), "missing field `key`"),
            (expression(r#""key": "", "operator": "Exists""#), "not the key of a label"),
            (expression(r#""key": "a b", "operator": "Exists""#), "not the key of a label"),
            (expression(r#""key": "a", "operator": "In", "values": ["a b"]"#), "not the value of a label"),
            (expression(r#""key": "a", "operator": "In", "values": [1]"#), "expected a string"),
            (r#"{"matchLabels": {"-": "1"}}"#.to_owned(), "not the key of a label"),
            (r#"{"matchLabels": {"a": "b c"}}"#.to_owned(), "not the value of a label"),
            (r#"{"matchLabels": {"a": null}}"#.to_owned(), "expected a string"),
            (r#"{"matchLabels": []}"#.to_owned(), "expected a map"),
            (r#"{"matchExpressions": [[]]}"#.to_owned(), "expected a mapping"),
            ("[]".to_owned(), "expected a mapping"),
        ];
        for (selector, says) in rows {
            let error = serde_json::from_str::<LabelSelector>(&selector).expect_err(&selector).to_string();
            assert!(error.contains(says), "{selector}: {error}");
        }
    }
}
