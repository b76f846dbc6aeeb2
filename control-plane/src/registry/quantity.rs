//! Kubernetes' resource quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! Owns: parsing and comparing. Called by: decoding, validation, the scheduler.

use std::cmp::Ordering;

/// An amount in billionths, so that every suffix down to `n` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Quantity(i128);

impl Quantity {
    /// Reads a quantity; none when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let (scale, exponent) = suffix_scale(suffix)?;
        let mut digits: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction = &fraction[..fraction.len().min(9)];
        for c in fraction.bytes() {
            digits = digits * 10 + i128::from(c - b'0');
        }
        // In billionths: digits * scale * 10^(exponent + 9 - fraction.len()).
        let power = exponent + 9 - i32::try_from(fraction.len()).ok()?;
        let scaled = digits.checked_mul(scale)?;
        let nanos = if power >= 0 {
            scaled.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?
        } else {
            let divisor = 10_i128.checked_pow(power.unsigned_abs())?;
            (scaled + divisor - 1) / divisor
        };
        Some(Self(if negative { -nanos } else { nanos }))
    }

    /// The one way in which Kubernetes writes an amount: whole numbers, with the largest suffix of the
    /// same sort. None when it is not one.
    ///
    /// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
    pub(crate) fn canonical(text: &str) -> Option<String> {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let Self(nanos) = Self::parse(text)?;
        if nanos == 0 {
            return Some("0".to_owned());
        }
        let sign = if nanos < 0 { "-" } else { "" };
        let amount = nanos.unsigned_abs();
        let mut whole = amount.div_ceil(1_000_000_000);
        if text.ends_with('i') && amount >= 1024 * 1_000_000_000 {
            let mut step = 0;
            while whole.is_multiple_of(1024) && step + 1 < BINARY.len() {
                whole /= 1024;
                step += 1;
            }
            return Some(format!("{sign}{whole}{}", BINARY[step]));
        }
        let (mut number, mut step) = (amount, 0);
        while number.is_multiple_of(1000) && step + 1 < DECIMAL.len() {
            number /= 1000;
            step += 1;
        }
        let by_exponent =
            text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
        if by_exponent.len() < text.len() && by_exponent.ends_with(['e', 'E']) {
            let exponent = i32::try_from(step).ok()? * 3 - 9;
            let suffix = if exponent == 0 { String::new() } else { format!("e{exponent}") };
            return Some(format!("{sign}{number}{suffix}"));
        }
        Some(format!("{sign}{number}{}", DECIMAL[step]))
    }

    /// An amount as error texts show it.
    pub(crate) fn shown(text: &str) -> String {
        let Self(mut value) = Self::parse(text).unwrap_or_default();
        let mut scale = -9;
        while scale < 0 && value % 10 == 0 {
            value /= 10;
            scale += 1;
        }
        let format = if text.ends_with('i') { "BinarySI" } else { "DecimalSI" };
        format!(
            "resource.Quantity{{i:resource.int64Amount{{value:{value}, scale:{scale}}}, d:resource.infDecAmount{{Dec:(*inf.Dec)(nil)}}, s:\"\", Format:\"{format}\"}}"
        )
    }

    pub(crate) fn is_whole(self) -> bool {
        self.0 % 1_000_000_000 == 0
    }

    /// In thousandths, rounded up, as the scheduler counts processors.
    pub(crate) fn millis(self) -> i128 {
        self.0.div_euclid(1_000_000) + i128::from(self.0.rem_euclid(1_000_000) > 0)
    }

    /// In whole numbers, as those that are less than zero are told.
    pub(crate) fn floor(self) -> i128 {
        self.0.div_euclid(1_000_000_000)
    }

    pub(crate) fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A factor and a power of ten.
fn suffix_scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        s => {
            let e = s.strip_prefix(['e', 'E'])?;
            let e: i32 = e.parse().ok()?;
            if !(-18..=18).contains(&e) {
                return None;
            }
            (1, e)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_compare_across_suffixes() {
        let q = |s| Quantity::parse(s).unwrap();
        assert_eq!(q("1"), q("1000m"));
        assert_eq!(q("1.5Gi"), q("1536Mi"));
        assert_eq!(q("2e3"), q("2k"));
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("0.1").millis(), 100);
        assert_eq!(q("0.1m").millis(), 1);
        assert!(q("-1").is_negative());
    }

    // The page of `canonical`.
    #[test]
    fn an_amount_is_written_in_one_way() {
        for (sent, kept) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("128974848", "128974848"),
            ("1000", "1k"),
            ("12E", "12E"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("-1024Ki", "-1Mi"),
            ("0.0001", "100u"),
            ("00", "0"),
            ("1Gi", "1Gi"),
            ("100m", "100m"),
        ] {
            assert_eq!(Quantity::canonical(sent).as_deref(), Some(kept), "{sent}");
        }
        assert_eq!(Quantity::canonical("x"), None);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for s in ["", "-", "1x", "1.2.3", "Gi", "1ei", "1 Gi", "99999999999999999999E", "1e99"] {
            assert!(Quantity::parse(s).is_none(), "{s}");
        }
    }
}
