//! EC keys between the form of KubeEdge (SEC 1, as Go writes it) and that of ring (PKCS#8). Pure.
//!
//! Owns: the few bytes of DER that differ. P-256 only, the only curve that KubeEdge uses.
//! Called by: `certs.rs`.
//! Never: prints a key.

/// A key is not a P-256 key in SEC 1 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a P-256 key in SEC 1 or PKCS#8 form")]
pub struct NotP256;

const SCALAR: usize = 32;
const POINT: usize = 65;
/// `[0] { OID prime256v1 }`
const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `SEQUENCE { OID ecPublicKey, OID prime256v1 }`
const ALGORITHM: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// One DER value: tag, content, and what follows it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&n, rest)| (usize::from(n), rest))?,
        0x82 => {
            let (bytes, rest) = rest.split_at_checked(2)?;
            (usize::from(bytes[0]) << 8 | usize::from(bytes[1]), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    value(der).filter(|(t, ..)| *t == tag).map(|(_, content, rest)| (content, rest))
}

/// The scalar and, if it is there, the point of an ECPrivateKey.
fn parts(sec1: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (body, _) = expect(sec1, 0x30)?;
    let (version, rest) = expect(body, 0x02)?;
    let (scalar, mut rest) = expect(rest, 0x04)?;
    if version != [1] || scalar.len() != SCALAR {
        return None;
    }
    let mut point = None;
    while let Some((tag, content, more)) = value(rest) {
        match tag {
            0xa0 if content != &CURVE[2..] => return None,
            0xa1 => {
                let (bits, _) = expect(content, 0x03)?;
                point = bits.strip_prefix(&[0]).filter(|p| p.len() == POINT);
            }
            _ => {}
        }
        rest = more;
    }
    Some((scalar, point))
}

/// The ECPrivateKey inside PKCS#8.
fn inner(pkcs8: &[u8]) -> Option<&[u8]> {
    let (body, _) = expect(pkcs8, 0x30)?;
    let (version, rest) = expect(body, 0x02)?;
    let (algorithm, rest) = expect(rest, 0x30)?;
    let (key, _) = expect(rest, 0x04)?;
    (version == [0] && algorithm == &ALGORITHM[2..]).then_some(key)
}

/// The key as KubeEdge stores it; byte for byte what Go's `x509.MarshalECPrivateKey` makes.
///
/// # Errors
/// When it is not a P-256 key in either form, or has no public part.
pub fn to_sec1(key: &[u8]) -> Result<Vec<u8>, NotP256> {
    let (scalar, point) = inner(key).and_then(parts).or_else(|| parts(key)).ok_or(NotP256)?;
    let point = point.ok_or(NotP256)?;
    let mut der = vec![0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend_from_slice(scalar);
    der.extend_from_slice(&CURVE);
    der.extend_from_slice(&[0xa1, 0x44, 0x03, 0x42, 0x00]);
    der.extend_from_slice(point);
    Ok(der)
}

/// The key as ring reads it.
///
/// # Errors
/// When it is not a P-256 key in either form, or has no public part.
pub fn to_pkcs8(key: &[u8]) -> Result<Vec<u8>, NotP256> {
    let sec1 = to_sec1(key)?;
    let mut der = vec![0x30, 0x81, 0x93, 0x02, 0x01, 0x00];
    der.extend_from_slice(&ALGORITHM);
    der.extend_from_slice(&[0x04, 0x79]);
    der.extend_from_slice(&sec1);
    Ok(der)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use proptest::prelude::*;

    use super::*;

    /// A throw-away CA key as KubeEdge stores it.
    pub(crate) const KUBEEDGE: &str = "MHcCAQEEIJ/CNuHIOvaSryRnd/46EmL8SyHUFtzzlujZQDEwYPndoAoGCCqGSM49AwEHoUQDQgAEBA3z83/4LVzW4e/CKMF7Qz+4ia1UDE00j7BwId7kKNlI7BGzCf3W2bPp4NgyWCfnmU8dW4VZyKKmBV11UoZU5Q==";

    #[test]
    fn a_key_of_kubeedge_is_usable_and_comes_back_as_it_was() {
        let sec1 = base64::engine::general_purpose::STANDARD.decode(KUBEEDGE).unwrap();
        let pkcs8 = to_pkcs8(&sec1).unwrap();
        rcgen::KeyPair::try_from(pkcs8.as_slice()).unwrap();
        assert_eq!(to_sec1(&pkcs8).unwrap(), sec1);
        assert_eq!(to_sec1(&sec1).unwrap(), sec1);
    }

    #[test]
    fn a_key_made_here_has_the_form_of_kubeedge() {
        let made = rcgen::KeyPair::generate().unwrap();
        let sec1 = to_sec1(&made.serialize_der()).unwrap();
        assert_eq!(sec1.len(), 121);
        let again = rcgen::KeyPair::try_from(to_pkcs8(&sec1).unwrap().as_slice()).unwrap();
        assert_eq!(again.public_key_raw(), made.public_key_raw());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(to_sec1(&bytes).is_err());
        }

        #[test]
        fn a_damaged_key_never_panics(at in 0usize..121, with: u8) {
            let mut key = base64::engine::general_purpose::STANDARD.decode(KUBEEDGE).unwrap();
            key[at] = with;
            let _ = to_pkcs8(&key);
        }
    }
}
