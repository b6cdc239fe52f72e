//! AWS's partitions, as data: each is an AWS of its own, with its own names.

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Partition {
    /// As it stands in ARNs.
    pub(super) name: &'static str,
    /// What all its host names end in.
    pub(super) suffix: &'static str,
    /// What names of its regions begin with; the longest beginning decides.
    regions: &'static [&'static str],
    /// Its one IAM, and the region calls to it are signed for.
    pub(super) iam: (&'static str, &'static str),
}

/// All of them, as AWS's own SDKs list them.
pub(super) const PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws",
        suffix: "amazonaws.com",
        regions: &[
            "us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-",
        ],
        iam: ("https://iam.amazonaws.com/", "us-east-1"),
    },
    Partition {
        name: "aws-cn",
        suffix: "amazonaws.com.cn",
        regions: &["cn-"],
        iam: ("https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
    },
    Partition {
        name: "aws-us-gov",
        suffix: "amazonaws.com",
        regions: &["us-gov-"],
        iam: ("https://iam.us-gov.amazonaws.com/", "us-gov-west-1"),
    },
    Partition {
        name: "aws-eusc",
        suffix: "amazonaws.eu",
        regions: &["eusc-"],
        iam: ("https://iam.eusc-de-east-1.amazonaws.eu/", "eusc-de-east-1"),
    },
    Partition {
        name: "aws-iso",
        suffix: "c2s.ic.gov",
        regions: &["us-iso-"],
        iam: ("https://iam.us-iso-east-1.c2s.ic.gov/", "us-iso-east-1"),
    },
    Partition {
        name: "aws-iso-b",
        suffix: "sc2s.sgov.gov",
        regions: &["us-isob-"],
        iam: (
            "https://iam.us-isob-east-1.sc2s.sgov.gov/",
            "us-isob-east-1",
        ),
    },
    Partition {
        name: "aws-iso-e",
        suffix: "cloud.adc-e.uk",
        regions: &["eu-isoe-"],
        iam: (
            "https://iam.eu-isoe-west-1.cloud.adc-e.uk/",
            "eu-isoe-west-1",
        ),
    },
    Partition {
        name: "aws-iso-f",
        suffix: "csp.hci.ic.gov",
        regions: &["us-isof-"],
        iam: (
            "https://iam.us-isof-south-1.csp.hci.ic.gov/",
            "us-isof-south-1",
        ),
    },
];

/// The partition of that name.
pub(super) fn named(name: &str) -> Option<&'static Partition> {
    PARTITIONS.iter().find(|partition| partition.name == name)
}

/// Their names, for people.
pub(super) fn names() -> String {
    PARTITIONS.map(|partition| partition.name).join(", ")
}

/// The partition a region is in, if its name tells.
pub(super) fn of_region(region: &str) -> Option<&'static Partition> {
    let beginnings = PARTITIONS.iter().flat_map(|partition| {
        let regions = partition.regions.iter();
        regions.map(move |beginning| (beginning.len(), partition, beginning))
    });
    let fitting = beginnings.filter(|(_, _, beginning)| region.starts_with(**beginning));
    fitting
        .max_by_key(|(length, ..)| *length)
        .map(|(_, partition, _)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_t20_each_partition_is_known_by_its_regions_and_has_its_own_hosts() {
        for (region, name, suffix) in [
            ("eu-central-1", "aws", "amazonaws.com"),
            ("us-east-1", "aws", "amazonaws.com"),
            ("cn-northwest-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-east-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("us-iso-west-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
            ("us-isof-east-1", "aws-iso-f", "csp.hci.ic.gov"),
        ] {
            let partition = of_region(region).unwrap();
            assert_eq!((partition.name, partition.suffix), (name, suffix));
            assert!(partition.iam.0.ends_with(&format!(".{suffix}/")), "{name}");
            assert_eq!(of_region(partition.iam.1).unwrap().name, name);
            assert_eq!(named(name), Some(partition));
        }
        assert_eq!(of_region("moon-base-1"), None);
        assert_eq!(named("mine"), None);
    }
}
