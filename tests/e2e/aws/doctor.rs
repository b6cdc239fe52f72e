//! What `init-iam` prints is all an administrator has to set up.

use super::place::{AwsPlace, Setting};
use crate::e2e::cli::{countersign, run};

async fn doctor_is_content(setting: Setting) {
    let place = AwsPlace::set(setting).await;
    let mut doctor = countersign("http://127.0.0.1:9", "", &["doctor", "."]);
    doctor.current_dir(&place.dir).envs(place.environment());
    let said = run(doctor).await.fine().out;
    assert!(said.contains("the rehearsal passed"), "{said}");
    for severity in ["error ", "warning "] {
        assert!(!said.contains(severity), "{said}");
    }
}

#[tokio::test]
async fn what_init_iam_prints_makes_doctor_content() {
    doctor_is_content(Setting::Boundary).await;
}

#[tokio::test]
async fn what_init_iam_prints_for_an_inline_guard_makes_doctor_content() {
    doctor_is_content(Setting::Inline).await;
}

#[tokio::test]
async fn what_init_iam_prints_for_a_writer_in_another_account_makes_doctor_content() {
    doctor_is_content(Setting::OtherAccount).await;
}
