//! Columns aligned as Go's tabwriter aligns them with docker's settings: at least 10 wide, 3 blanks between, and a
//! column reaches only as far as neighbouring lines have it.

/// Smallest width of a column, its padding included.
const MIN_WIDTH: usize = 10;
/// Blanks after the widest cell.
const PADDING: usize = 3;

/// Aligns tab-terminated cells with docker's settings.
pub(crate) fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// Aligns tab-terminated cells. What follows the last tab of a line is no part of a column.
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    for (index, cells) in lines.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < cells.len() {
                let width =
                    column_width(&lines, index, column).max(min_width.saturating_sub(padding)) + padding;
                let fill = width - cell.chars().count();
                out.extend(std::iter::repeat_n(' ', fill));
            }
        }
        if index + 1 < lines.len() {
            out.push('\n');
        }
    }
    out
}

/// The widest cell of the run of lines around `index` that have this column.
fn column_width(lines: &[Vec<&str>], index: usize, column: usize) -> usize {
    let has = |line: &&Vec<&str>| line.len() > column + 1;
    let before = lines[..index].iter().rev().take_while(has);
    let after = lines[index..].iter().take_while(has);
    before
        .chain(after)
        .map(|line| line[column].chars().count())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_the_last_is_not() {
        assert_eq!(
            align("CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest-and-more\tx\n"),
            "CONTAINER ID   IMAGE                     NAMES\n0123456789ab   busybox:latest-and-more   x\n"
        );
        assert_eq!(align("ID\tB\n1\t2\n"), "ID        B\n1         2\n");
    }

    #[test]
    fn a_column_ends_where_lines_lack_it() {
        assert_eq!(
            align("aaaaaaaaaaaaaaa\tb\nplain\nc\td\n"),
            "aaaaaaaaaaaaaaa   b\nplain\nc         d\n"
        );
    }
}
