//! Usage: how many units of each class one call took.

/// What one call took, by class, as far as its provider said. `None` is unknown, which is not zero.
///
/// Totals include their parts: `input_tokens` holds the cached, the written and those of every medium, `output_tokens` the
/// reasoning. [`UsageCounts::check`] says whether the parts fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Everything that was sent.
    pub input_tokens: Option<u64>,
    /// Of the input: read from the provider's cache.
    pub cached_input_tokens: Option<u64>,
    /// Of the input: written to the cache, for however long.
    pub cache_write_tokens: Option<u64>,
    /// Of the cache writes: for an hour.
    pub cache_write_1h_tokens: Option<u64>,
    /// Of the input: sound.
    pub audio_input_tokens: Option<u64>,
    /// Of the sound and of the cached input: both.
    pub cached_audio_tokens: Option<u64>,
    /// Of the input: pictures and pages.
    pub image_input_tokens: Option<u64>,
    /// Of the pictures and of the cached input: both.
    pub cached_image_tokens: Option<u64>,
    /// Of the input: film.
    pub video_input_tokens: Option<u64>,
    /// Of the film and of the cached input: both.
    pub cached_video_tokens: Option<u64>,
    /// Of the input: what tools that the provider ran put in.
    pub tool_input_tokens: Option<u64>,
    /// Of the input: what was embedded.
    pub embedding_tokens: Option<u64>,
    /// Everything that came back.
    pub output_tokens: Option<u64>,
    /// Of the output: reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Of the output: sound.
    pub audio_output_tokens: Option<u64>,
    /// Of the output: pictures.
    pub image_output_tokens: Option<u64>,
    /// Of the output: film.
    pub video_output_tokens: Option<u64>,
    /// Of the output: cited sources, where the provider counts them.
    pub citation_tokens: Option<u64>,
    /// Requests; `None` is one.
    pub requests: Option<u64>,
    /// Searches of the web that the provider made.
    pub web_searches: Option<u64>,
    /// Searches of stored files that the provider made.
    pub file_searches: Option<u64>,
    /// Calls of other tools that the provider ran and charges by what it does not tell: code interpreters, shells,
    /// pictures.
    pub tool_calls: Option<u64>,
}

/// Parts that are more than the whole they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parts} ({parts_count}) cannot be more than {whole} ({whole_count})")]
pub struct PartsExceedWhole {
    /// Which parts.
    pub parts: &'static str,
    /// How many they are.
    pub parts_count: u64,
    /// Of what.
    pub whole: &'static str,
    /// How many that is.
    pub whole_count: u64,
}

impl UsageCounts {
    /// Input and output together.
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.unwrap_or(0).saturating_add(self.output_tokens.unwrap_or(0))
    }

    /// Whether every part fits into its whole. A part that does not would have to be guessed at, so it is an error; parts
    /// of different kinds (cached and sound) may overlap and are compared with the whole one by one.
    pub fn check(&self) -> Result<(), PartsExceedWhole> {
        let input = ("input tokens", self.input_tokens);
        let output = ("output tokens", self.output_tokens);
        let cached = ("cached input tokens", self.cached_input_tokens);
        let cached_media = [self.cached_audio_tokens, self.cached_image_tokens, self.cached_video_tokens];
        let media_in = [self.audio_input_tokens, self.image_input_tokens, self.video_input_tokens];
        let media_out = [self.audio_output_tokens, self.image_output_tokens, self.video_output_tokens];
        fits("cached and cache-write tokens", &[self.cached_input_tokens, self.cache_write_tokens], input)?;
        fits(
            "one-hour cache-write tokens",
            &[self.cache_write_1h_tokens],
            ("cache-write tokens", self.cache_write_tokens),
        )?;
        fits("audio, image and video input tokens", &media_in, input)?;
        fits("cached audio, image and video tokens", &cached_media, cached)?;
        fits("cached audio tokens", &[self.cached_audio_tokens], ("audio input tokens", self.audio_input_tokens))?;
        fits("cached image tokens", &[self.cached_image_tokens], ("image input tokens", self.image_input_tokens))?;
        fits("cached video tokens", &[self.cached_video_tokens], ("video input tokens", self.video_input_tokens))?;
        fits("tool input tokens", &[self.tool_input_tokens], input)?;
        fits("embedding tokens", &[self.embedding_tokens], input)?;
        fits("reasoning tokens", &[self.reasoning_tokens], output)?;
        fits("citation tokens", &[self.citation_tokens], output)?;
        fits("audio, image and video output tokens", &media_out, output)
    }
}

fn fits(
    parts: &'static str,
    counts: &[Option<u64>],
    whole: (&'static str, Option<u64>),
) -> Result<(), PartsExceedWhole> {
    let parts_count = counts.iter().flatten().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let whole_count = whole.1.unwrap_or(0);
    if parts_count <= whole_count {
        return Ok(());
    }
    Err(PartsExceedWhole { parts, parts_count, whole: whole.0, whole_count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_into_their_whole_or_are_named() {
        let fitting = UsageCounts {
            input_tokens: Some(100),
            cached_input_tokens: Some(60),
            cache_write_tokens: Some(40),
            audio_input_tokens: Some(100),
            cached_audio_tokens: Some(60),
            output_tokens: Some(10),
            reasoning_tokens: Some(10),
            ..UsageCounts::default()
        };
        assert_eq!(fitting.check(), Ok(()));
        assert_eq!(fitting.total_tokens(), 110);
        for (counts, message) in [
            (
                UsageCounts { cache_write_tokens: Some(41), ..fitting },
                "cached and cache-write tokens (101) cannot be more than input tokens (100)",
            ),
            (
                UsageCounts { reasoning_tokens: Some(11), ..fitting },
                "reasoning tokens (11) cannot be more than output tokens (10)",
            ),
            (
                UsageCounts { cached_image_tokens: Some(1), ..fitting },
                "cached audio, image and video tokens (61) cannot be more than cached input tokens (60)",
            ),
        ] {
            assert_eq!(counts.check().unwrap_err().to_string(), message);
        }
    }
}
