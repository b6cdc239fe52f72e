//! Passwords for accounts in databases.

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::system::Entropy;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 40;

/// Draws 40 letters and digits: 238 bits, the same in a URL, a file and after SASLprep.
pub fn draw_password(entropy: &dyn Entropy) -> SecretString {
    let mut password = String::with_capacity(LENGTH);
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while password.len() < LENGTH {
        entropy.fill(bytes.as_mut_slice());
        // 248 is the largest multiple of 62 in a byte: no letter is likelier than another.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        for letter in letters.take(LENGTH - password.len()) {
            password.push(char::from(*letter));
        }
    }
    SecretString::from(password)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::try_from(index * 7 % 256).unwrap();
            }
        }
    }

    #[test]
    fn passwords_are_forty_letters_and_digits() {
        let password = draw_password(&Counting);
        let text = password.expose_secret();
        assert_eq!(text.len(), LENGTH);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
