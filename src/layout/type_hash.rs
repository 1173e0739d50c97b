//! The identity of a sample type.

/// The identity of a sample type in
/// [`CreateOptions::type_hash`](crate::CreateOptions::type_hash), from its name and its size in
/// bytes: FNV-1a of the name's bytes in 64 bits, then the size, both little-endian. C and C++ make
/// the same.
pub const fn type_hash(name: &str, size: u64) -> [u8; 16] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = name.as_bytes();
    while let [byte, others @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(0x100_0000_01b3);
        rest = others;
    }
    ((size as u128) << 64 | hash as u128).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::type_hash;

    /// The published vector of FNV-1a for "foobar", and a size. ctests/options.c and
    /// ctests/cpp_typed.cpp have it, too.
    #[test]
    fn the_identity_is_the_published_hash_and_the_size() {
        let hash = 0x8594_4171_f739_67e8_u64.to_le_bytes();
        let size = 0x0102_0304_0506_0708_u64;
        assert_eq!(type_hash("foobar", size), [hash, size.to_le_bytes()].concat()[..]);
    }
}
