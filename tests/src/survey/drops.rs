//! What the agents dropped, as `sdnctl drops -o json` tells it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::lab::Lab;

/// The drops of all nodes by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<String, ReasonCount>);

/// The drops of one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReasonCount {
    /// What the agent says about the reason.
    pub description: String,
    /// Packets by node.
    pub packets: BTreeMap<String, u64>,
}

/// The part of a row of the agent's answer that is needed here.
#[derive(Debug, Deserialize)]
struct Row {
    reason: String,
    #[serde(default)]
    description: String,
    packets: u64,
}

impl Drops {
    /// Asks the agents of all nodes.
    pub fn read(lab: &Lab) -> Result<Self> {
        let mut drops = Self::default();
        for node in lab.nodes() {
            let text = node.sdnctl(&["drops", "-o", "json"])?;
            let rows: Vec<Row> = serde_json::from_str(&text)
                .with_context(|| format!("understand `sdnctl drops -o json` of {}: {text}", node.name()))?;
            rows.into_iter().for_each(|row| drops.add(node.name(), row));
        }
        Ok(drops)
    }

    /// Packets dropped for `reason` on all nodes.
    pub fn packets(&self, reason: &str) -> u64 {
        self.0.get(reason).map_or(0, ReasonCount::total)
    }

    /// The reasons under which anything was dropped.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ReasonCount)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), count)).filter(|(_, count)| count.total() > 0)
    }

    /// Drops by node and reason.
    #[cfg(test)]
    pub(super) fn of(rows: &[(&str, &str, u64)]) -> Self {
        let mut drops = Self::default();
        for (node, reason, packets) in rows {
            drops.add(node, Row { reason: (*reason).into(), description: String::new(), packets: *packets });
        }
        drops
    }

    fn add(&mut self, node: &str, row: Row) {
        let count = self.0.entry(row.reason).or_default();
        count.description = row.description;
        *count.packets.entry(node.to_owned()).or_default() += row.packets;
    }
}

impl ReasonCount {
    /// Packets on all nodes.
    pub fn total(&self) -> u64 {
        self.packets.values().sum()
    }
}
