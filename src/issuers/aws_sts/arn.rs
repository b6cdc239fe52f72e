//! ARNs of roles and policies, read strictly.

use std::fmt;

use super::partition::{self, Partition};

/// The ARN of a role or a customer-managed policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct IamArn {
    text: String,
    /// The AWS it is in.
    pub(super) partition: &'static Partition,
    /// Twelve digits.
    pub(super) account: String,
    /// Path and name, without the leading slash.
    path_and_name: String,
}

impl IamArn {
    /// Reads `arn:PARTITION:iam::ACCOUNT:KIND/PATH/NAME`, where `kind` is `role` or `policy`.
    pub(super) fn parse(text: &str, kind: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not the ARN of a {kind}; write it like arn:aws:iam::111111111111:{kind}/countersign/orders"
            )
        };
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
            return Err(wrong());
        };
        let path_and_name = resource
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(wrong)?;
        let partition = partition::named(partition).ok_or_else(|| {
            format!(
                "{text:?} is in no partition known here, which are {}",
                partition::names()
            )
        })?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        let segment = |part: &str| !part.is_empty() && part.bytes().all(plain);
        let sound = account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && path_and_name.len() <= 512
            && path_and_name.split('/').all(segment);
        sound
            .then(|| Self {
                text: text.to_owned(),
                partition,
                account: (*account).to_owned(),
                path_and_name: path_and_name.to_owned(),
            })
            .ok_or_else(wrong)
    }

    /// The ARN as written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The ARN of a session of this role.
    pub(super) fn session(&self, name: &str) -> String {
        let (partition, account) = (self.partition.name, &self.account);
        format!(
            "arn:{partition}:sts::{account}:assumed-role/{}/{name}",
            self.name()
        )
    }

    /// The name behind the path.
    pub(super) fn name(&self) -> &str {
        self.path_and_name
            .rsplit('/')
            .next()
            .unwrap_or(&self.path_and_name)
    }
}

impl fmt::Display for IamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_has_a_partition_an_account_and_a_name() {
        let role = IamArn::parse("arn:aws:iam::111111111111:role/countersign/orders", "role");
        let role = role.unwrap();
        assert_eq!(
            (role.partition.name, role.account.as_str(), role.name()),
            ("aws", "111111111111", "orders")
        );
        for partition in partition::PARTITIONS {
            let arn = format!("arn:{}:iam::111111111111:policy/g", partition.name);
            assert_eq!(*IamArn::parse(&arn, "policy").unwrap().partition, partition);
        }
        for wrong in [
            "",
            "arn:aws:iam::111111111111:role/",
            "arn:aws:iam::111111111111:role/a//b",
            "arn:aws:iam::111111111111:role/*",
            "arn:aws:iam::11111111111:role/a",
            "arn:aws:iam:eu-central-1:111111111111:role/a",
            "arn:aws:sts::111111111111:assumed-role/a/b",
            "arn:aws:iam::111111111111:policy/a",
            "arn:mine:iam::111111111111:role/a",
        ] {
            assert!(IamArn::parse(wrong, "role").is_err(), "{wrong}");
        }
    }
}
