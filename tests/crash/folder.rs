//! What the engines of these tests share.

use std::sync::LazyLock;

/// A folder for what is not the store: the key that signs, and prices short enough to be read at every start.
pub static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let prices = "[providers.openai]\nname = \"OpenAI\"\nsource = \"a test\"\nchecked = \"2026-08-21\"\n\n\
                  [prices.openai.ada]\ninput = \"0.4\"\noutput = \"0.4\"\n";
    std::fs::write(folder.path().join("prices.toml"), prices).unwrap();
    // Many engines start in it at once: there is a key before the first of them looks.
    let key = folder.path().join("audit-signing.key");
    std::fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    folder
});
