//! Single values on the wire: exact numbers, money and times, each from and to its own text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::money::Money;
use crate::domain::quota::QuotaType;

/// A JSON number (or null) of which no digit passes through a float.
#[derive(Clone, Debug)]
pub enum Number {
    /// A whole number.
    Whole(i64),
    /// Any number, as its text.
    Text(Box<RawValue>),
}

impl Number {
    /// Its text.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Whole(number) => number.to_string().into(),
            Self::Text(text) => text.get().into(),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self::Text)
    }
}

/// A number from its decimal text.
pub fn number(text: String) -> Number {
    Number::Text(raw(text))
}

/// JSON as it is.
pub fn raw(json: String) -> Box<RawValue> {
    // The callers hand in what is JSON; null is the honest rest.
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An amount of a quota type: dollars for cost, else a whole number.
pub fn amount(quota_type: QuotaType, amount: u128) -> Number {
    match i64::try_from(amount) {
        Ok(whole) if quota_type != QuotaType::Cost => Number::Whole(whole),
        _ => number(quota_type.show(amount)),
    }
}

/// An amount, or -1 for unlimited, as the documented interface shows what remains.
pub fn remaining(quota_type: QuotaType, left: Option<u128>) -> Number {
    left.map_or(Number::Whole(-1), |left| amount(quota_type, left))
}

/// Anything with a text form, as a JSON string.
pub mod text {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes its text.
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads it from its text.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Anything with a text form, as a JSON string or null.
pub mod text_or_null {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes its text, or null.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it from its text; null is `None`.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<Cow<str>>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

/// Money as a JSON number of dollars with all its digits, or null.
pub mod money_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::{Money, RawValue, money_of, number};

    /// Writes all digits, or null.
    pub fn serialize<S: Serializer>(money: &Option<Money>, serializer: S) -> Result<S::Ok, S::Error> {
        money.map(|money| number(money.to_string())).serialize(serializer)
    }

    /// Reads a number or a string from its text; null is `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Money>, D::Error> {
        money_of(&Box::<RawValue>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Money from the text of a JSON number or string; null is `None`. Fails with the rest of a sentence.
pub fn money_of(raw: &RawValue) -> Result<Option<Money>, String> {
    let text = match raw.get().as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => serde_json::from_str::<String>(raw.get()).map_err(|_| "is not valid text".to_owned())?,
        Some(b'-' | b'0'..=b'9') => raw.get().to_owned(),
        _ => return Err("must be a number of US dollars or a decimal text".to_owned()),
    };
    text.parse().map(Some).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit_of_its_text_and_nulls_stay_null() {
        for (sent, shown) in [
            ("0.1", Some("0.1")),
            ("0.000000000000001", Some("0.000000000000001")),
            ("\"12.345678901234567\"", Some("12.345678901234567")),
            ("12.3456789012345678", None),
            ("\"0.30\"", Some("0.3")),
            ("123456789.123456789012345", Some("123456789.123456789012345")),
            ("true", None),
            ("{}", None),
            ("-1", None),
        ] {
            let read = money_of(&raw(sent.to_owned())).ok().flatten().map(|money| money.to_string());
            assert_eq!(read.as_deref(), shown, "{sent}");
        }
        assert_eq!(money_of(&raw("null".to_owned())), Ok(None));
    }
}
