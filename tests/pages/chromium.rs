//! A real browser: Chromium, driven by the chromedriver beside it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thirtyfour::ChromeCapabilities;
use thirtyfour::prelude::*;

/// How a browser is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    pub dark: bool,
    pub without_scripts: bool,
}

/// A browser with a fresh profile; it and its driver end with this value.
pub struct Browser {
    pub driver: WebDriver,
    process: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// Starts one. Fails when Chromium or its driver is not installed.
    pub async fn start(setup: Setup) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver does not start: install Debian's packages chromium and chromium-driver");
        let profile = tempfile::tempdir().unwrap();
        let mut caps = DesiredCapabilities::chrome();
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ] {
            caps.add_arg(flag).unwrap();
        }
        let mut blink = vec![format!("preferredColorScheme={}", u8::from(!setup.dark))];
        if setup.without_scripts {
            blink.push("scriptEnabled=false".into());
        }
        caps.add_arg(&format!("--blink-settings={}", blink.join(",")))
            .unwrap();
        let driver = connect(port, &caps).await;
        Self {
            driver,
            process,
            _profile: profile,
        }
    }

    /// Ends the browser, and then its driver.
    pub async fn quit(self) {
        self.driver.clone().quit().await.unwrap();
    }

    /// The element, once it is there.
    pub async fn find(&self, css: &str) -> WebElement {
        let query = self.driver.query(By::Css(css.to_owned()));
        let found = query
            .wait(Duration::from_secs(15), Duration::from_millis(50))
            .first()
            .await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Gives the page this much room.
    pub async fn resize(&self, width: u32, height: u32) {
        let script = "return window.outerHeight - window.innerHeight";
        let frame = self.driver.execute(script, Vec::new()).await.unwrap();
        let frame: u32 = frame.convert().unwrap();
        let resized = self.driver.set_window_rect(0, 0, width, height + frame);
        resized.await.unwrap();
    }

    /// Waits until the page says this.
    pub async fn says(&self, text: &str) {
        let deadline = self.deadline();
        loop {
            let shown = self.find("body").await.text().await.unwrap_or_default();
            if shown.contains(text) {
                return;
            }
            deadline.check(&format!("{text:?} never came; the page says\n{shown}"));
        }
    }

    /// Clicks a button once it may be clicked.
    pub async fn press(&self, css: &str) {
        let button = self.find(css).await;
        let deadline = self.deadline();
        while !button.is_enabled().await.unwrap() {
            deadline.check(&format!("{css} stays inactive"));
        }
        button.click().await.unwrap();
    }

    /// Gives up some time from now.
    pub fn deadline(&self) -> Deadline {
        Deadline::new()
    }
}

/// The driver listens a moment after it is started; a refused connection only means "not yet".
async fn connect(port: u16, caps: &ChromeCapabilities) -> WebDriver {
    let deadline = Deadline::new();
    loop {
        match WebDriver::new(format!("http://127.0.0.1:{port}"), caps.clone()).await {
            Ok(driver) => return driver,
            Err(error) => deadline.check(&format!("the browser does not start: {error}")),
        }
        tokio::task::yield_now().await;
    }
}

/// A point in time after which a test has failed.
pub struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "a browser keeps its own time")]
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Fails when the time is over.
    pub fn check(&self, otherwise: &str) {
        assert!(self.0.elapsed() < Duration::from_secs(20), "{otherwise}");
    }
}
