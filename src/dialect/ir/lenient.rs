//! Reading upstreams' replies, which hold what no specification says: a member of an unexpected type counts as absent
//! and does not spoil its object.

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Json, Text};

/// Any JSON value, borrowed. `null` is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw<'a>(Option<&'a RawValue>);

impl<'a> Raw<'a> {
    /// This value.
    pub fn of(raw: &'a RawValue) -> Self {
        Self(Some(raw).filter(|raw| raw.get() != "null"))
    }

    /// The value's text, if it is there and not `null`.
    pub fn get(self) -> Option<&'a str> {
        self.0.map(RawValue::get)
    }

    /// The value as it stands.
    pub fn json(self) -> Option<Json<'a>> {
        self.0.map(Json::of)
    }

    /// The text of a string.
    pub fn text(self) -> Option<Text<'a>> {
        self.0.and_then(Text::of)
    }

    /// The text of a string that is not empty.
    pub fn some_text(self) -> Option<Text<'a>> {
        self.text().filter(|text| !text.is_empty())
    }

    /// A number of tokens: a non-negative whole number, also where it is written as a float.
    pub fn count(self) -> Option<u64> {
        let raw = self.get()?;
        // Beyond 2^53 a float no longer holds every integer; no count is that large.
        let whole = |number: f64| {
            (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number))
                .then_some(number as u64)
        };
        raw.parse().ok().or_else(|| raw.parse().ok().and_then(whole))
    }

    /// The value as an object; nothing if it is anything else. (Serde would take an array for a struct, by position.)
    pub fn object<T: Deserialize<'a>>(self) -> Option<T> {
        let raw = self.get().filter(|raw| raw.starts_with('{'))?;
        serde_json::from_str(raw).ok()
    }

    /// The items of an array that read as `T`; none if it is anything else.
    pub fn items<T: Deserialize<'a>>(self) -> Vec<T> {
        let raw = self.get().filter(|raw| raw.starts_with('['));
        let items: Vec<&RawValue> = raw.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        items.into_iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de RawValue>::deserialize(deserializer).map(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Raw<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn odd_values_are_absent() {
        assert_eq!(
            (raw("3").count(), raw("3.0").count(), raw("-1").count(), raw("\"3\"").count()),
            (Some(3), Some(3), None, None)
        );
        assert!(
            raw("null").get().is_none() && raw("[]").text().is_none() && raw("\"\"").some_text().is_none()
        );
        #[derive(serde::Deserialize)]
        struct One {
            a: u8,
        }
        assert_eq!(raw("{\"a\":1}").object::<One>().unwrap().a, 1);
        assert!(raw("[1]").object::<One>().is_none());
        assert_eq!(raw("[{\"a\":1},3,{\"a\":2}]").items::<One>().len(), 2);
    }
}
