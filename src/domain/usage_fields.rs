//! The fields of [`UsageCounts`] in one order, for whoever stores, hashes or shows them all.

use super::usage::UsageCounts;

impl UsageCounts {
    /// How many fields there are.
    pub const FIELDS: usize = 22;
    /// How many there were at first: stored events always have columns of those, of later ones only where one is given.
    pub const FIRST_FIELDS: usize = 20;

    /// Each count with its name. Stored events rely on the order: a new field goes to the end.
    pub const fn all(&self) -> [(&'static str, Option<u64>); Self::FIELDS] {
        [
            ("input_tokens", self.input_tokens),
            ("cached_input_tokens", self.cached_input_tokens),
            ("cache_write_tokens", self.cache_write_tokens),
            ("cache_write_1h_tokens", self.cache_write_1h_tokens),
            ("audio_input_tokens", self.audio_input_tokens),
            ("cached_audio_tokens", self.cached_audio_tokens),
            ("image_input_tokens", self.image_input_tokens),
            ("cached_image_tokens", self.cached_image_tokens),
            ("video_input_tokens", self.video_input_tokens),
            ("cached_video_tokens", self.cached_video_tokens),
            ("tool_input_tokens", self.tool_input_tokens),
            ("embedding_tokens", self.embedding_tokens),
            ("output_tokens", self.output_tokens),
            ("reasoning_tokens", self.reasoning_tokens),
            ("audio_output_tokens", self.audio_output_tokens),
            ("image_output_tokens", self.image_output_tokens),
            ("video_output_tokens", self.video_output_tokens),
            ("citation_tokens", self.citation_tokens),
            ("requests", self.requests),
            ("web_searches", self.web_searches),
            ("file_searches", self.file_searches),
            ("tool_calls", self.tool_calls),
        ]
    }

    /// The same fields to write to, in the same order.
    pub const fn all_mut(&mut self) -> [&mut Option<u64>; Self::FIELDS] {
        [
            &mut self.input_tokens,
            &mut self.cached_input_tokens,
            &mut self.cache_write_tokens,
            &mut self.cache_write_1h_tokens,
            &mut self.audio_input_tokens,
            &mut self.cached_audio_tokens,
            &mut self.image_input_tokens,
            &mut self.cached_image_tokens,
            &mut self.video_input_tokens,
            &mut self.cached_video_tokens,
            &mut self.tool_input_tokens,
            &mut self.embedding_tokens,
            &mut self.output_tokens,
            &mut self.reasoning_tokens,
            &mut self.audio_output_tokens,
            &mut self.image_output_tokens,
            &mut self.video_output_tokens,
            &mut self.citation_tokens,
            &mut self.requests,
            &mut self.web_searches,
            &mut self.file_searches,
            &mut self.tool_calls,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_written_stand_in_the_same_order() {
        for place in 0..UsageCounts::FIELDS {
            let mut counts = UsageCounts::default();
            *counts.all_mut()[place] = Some(7);
            let given: Vec<usize> = (0..UsageCounts::FIELDS).filter(|&field| counts.all()[field].1.is_some()).collect();
            assert_eq!(given, [place]);
        }
    }
}
