//! Tables for listings.

use comfy_table::{ContentArrangement, presets};

/// A table with a heading and no lines, like those of `docker ps`.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// With these column headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, line) in self.0.lines().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            // The preset pads with one space on the left; a listing starts at the margin.
            formatter.write_str(line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }
}
