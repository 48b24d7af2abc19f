//! Whose request goes first where not all can go at once.

/// How important a request is. What is greater goes first, and is refused last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Work that can wait: batches, evaluations.
    Low,
    /// Everything that says nothing else.
    #[default]
    Normal,
    /// Someone waits for it.
    High,
}

impl Priority {
    /// Every priority, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The name used in configuration, headers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The priority of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_the_order_is_that_of_importance() {
        for priority in Priority::ALL {
            assert_eq!(Priority::named(priority.name()), Some(priority));
        }
        assert_eq!(Priority::named("urgent"), None);
        assert!(Priority::ALL.is_sorted());
    }
}
