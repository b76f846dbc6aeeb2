//! Kubernetes' quantities: `500m`, `16Gi`. Pure.

/// Thousandths of a quantity: `500m` is 500, `2` is 2000.
pub fn thousandths(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(digits) => digits.parse().ok(),
        None => whole(text)?.checked_mul(1000),
    }
}

/// Whole units of a Kubernetes quantity such as `100Mi` or `2G`.
pub fn whole(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    let (digits, unit) = UNITS.iter().find_map(|(u, n)| Some((text.strip_suffix(u)?, *n)))?;
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let value = digits.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "fractions of a unit are rare and need not be exact"
    )]
    Some((value * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        assert_eq!(whole("16Ki"), Some(16 << 10));
        assert_eq!(whole("2"), Some(2));
        assert_eq!(whole("1.5G"), Some(1_500_000_000));
        assert_eq!((thousandths("4"), thousandths("250m")), (Some(4000), Some(250)));
        for wrong in ["", "x", "-1", "m", "1e999"] {
            assert_eq!((whole(wrong), thousandths(wrong)), (None, None), "{wrong}");
        }
    }
}
