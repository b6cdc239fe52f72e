//! What somebody with the database in hand and without the log's key can put together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::domain::command::GiveReview;
use countersign::domain::request::ReviewDecision;
use countersign::domain::{Command, Digest, Entry, RequestId, Rules, Seconds, World, decide};
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{SigningKey, Tree, entry};
use countersign::store::{Contents, Head, StoredEntry};
use countersign::system::Clock;

use super::Dice;
use crate::support::house::House;
use crate::support::rules::people;

/// What a forger puts beside forged rows as the head.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forged {
    /// Size and edge of the forged rows, the checkpoint from before them.
    KeptCheckpoint,
    /// All of it, signed with another key of the same name.
    OtherKey,
    /// Only the checkpoint is missing.
    NoCheckpoint,
}

pub(super) fn world_of(contents: &Contents) -> World {
    let mut world = World::default();
    for stored in &contents.entries {
        let entry = entry::decode(&stored.bytes).unwrap();
        world.apply(&entry).unwrap();
    }
    world
}

/// Writes the rows that `commands` would lead to, as whoever has the database in hand can. Call inside a life.
pub(super) fn forge(house: &House, commands: &[Command], how: Forged) {
    let (ports, clock) = house.ports();
    let rules = Rules {
        policy: &house.policy,
        targets: ports.bundle.targets.as_ref(),
    };
    house.store.tamper(|contents| {
        let mut world = world_of(contents);
        let mut tree = Tree::from_head(&contents.head).unwrap();
        for command in commands {
            let now = clock.now().max(world.time);
            for event in decide(&world, command, &rules, now).unwrap() {
                let entry = Entry {
                    v: entry::VERSION,
                    seq: world.size,
                    time: now,
                    actor: command.actor(),
                    event,
                };
                let bytes = entry::encode(&entry).unwrap();
                world.apply(&entry).unwrap();
                tree.append(&bytes);
                contents.entries.push(StoredEntry {
                    seq: entry.seq,
                    leaf: leaf_hash(&bytes),
                    signature: None,
                    index: entry::index(&entry),
                    bytes,
                });
            }
        }
        contents.head.size = tree.size();
        contents.head.edge = tree.edge().to_vec();
        match how {
            Forged::KeptCheckpoint => {}
            Forged::NoCheckpoint => contents.head.checkpoint.clear(),
            Forged::OtherKey => {
                let key = SigningKey::generate("countersign.example", |seed| seed.fill(8)).unwrap();
                let signed = key.sign_head(tree.size(), &tree.root());
                contents.head.checkpoint = signed.note;
                contents.entries.last_mut().unwrap().signature = Some(signed.signature);
            }
        }
    });
}

pub(super) fn approval(request: &RequestId, digest: Digest) -> Command {
    Command::Review(Box::new(GiveReview {
        reviewer: people().remove(1),
        request: request.clone(),
        digest,
        decision: ReviewDecision::Approve,
        comment: None,
    }))
}

/// The head right after an earlier append, as anybody can put it together from what is stored.
pub(super) fn earlier_head(contents: &Contents, dice: &Dice) -> Head {
    let signed: Vec<_> = contents
        .entries
        .iter()
        .rev()
        .skip(1)
        .filter_map(|stored| Some((stored.seq + 1, stored.signature.clone()?)))
        .collect();
    let chosen = usize::try_from(dice.below(signed.len() as u64)).unwrap();
    let (size, signature) = &signed[chosen];
    let mut tree = Tree::default();
    for stored in &contents.entries[..usize::try_from(*size).unwrap()] {
        tree.append(&stored.bytes);
    }
    let name = "countersign.example";
    let root = STANDARD.encode(tree.root().0);
    Head {
        size: *size,
        edge: tree.edge().to_vec(),
        checkpoint: format!("{name}\n{size}\n{root}\n\n— {name} {signature}\n"),
    }
}

/// Rewrites one entry so that it still reads as one, and everything that needs no key with it.
pub(super) fn rewrite(contents: &mut Contents, dice: &Dice) {
    let at = 1 + usize::try_from(dice.below(contents.entries.len() as u64 - 1)).unwrap();
    let stored = &mut contents.entries[at];
    let mut entry = entry::decode(&stored.bytes).unwrap();
    entry.time = entry.time.plus(Seconds(1));
    stored.bytes = entry::encode(&entry).unwrap();
    stored.leaf = leaf_hash(&stored.bytes);
    stored.index = entry::index(&entry);
    let mut tree = Tree::default();
    for stored in &contents.entries {
        tree.append(&stored.bytes);
    }
    contents.head.edge = tree.edge().to_vec();
}
