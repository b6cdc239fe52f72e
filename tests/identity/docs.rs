//! The configuration examples in the documentation are real ones.

use countersign::config::Config;

#[test]
fn every_configuration_example_in_the_documentation_parses() {
    let text = include_str!("../../docs/identity.md");
    let mut examples = 0;
    for block in text.split("```toml\n").skip(1) {
        let (example, _) = block.split_once("```").expect("a closed block");
        if example.contains("[server]")
            || example.contains("[people.")
            || example.contains("[workloads.")
        {
            let server = "[server]\npublic_url = \"https://broker.example.com\"\nstate_dir = \"/var/lib/countersign\"\n";
            let whole = if example.contains("[server]") {
                example.to_owned()
            } else {
                format!("{server}{example}")
            };
            let config = Config::parse(&whole).unwrap_or_else(|error| panic!("{error}\n{example}"));
            assert!(!config.people.is_empty() || !config.workloads.is_empty());
            examples += 1;
        }
    }
    assert!(examples >= 4, "{examples} examples");
}
