//! Reading a table piece by piece, from a position that fits into a checkpoint.
//!
//! A statement is read page by page, behind the last key ([`crate::statement`]). A file is read from a byte offset that is always the beginning of a record, by a CSV reader made anew for
//! each piece; so a line break within quotes never splits a record, and nothing but the offset must be kept.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use csv::ByteRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use waymark_sdk::files::File;
use waymark_sdk::{Context, Failure, Progress, Step};

use crate::DataSet;
use crate::data_set::{Columns, NULL_VALUES};
use crate::statement::{self, Pages};

/// Bytes of a file that one scan reads, about. At the 50 to 150 MB/s of these job types that is a step of
/// some 30 to 80 ms.
pub const SCAN_BYTES: u64 = 4 << 20;

/// Rows of the input that one scan reads.
pub const SCAN_ROWS: u64 = 10_000;

/// Rows between two questions whether to yield.
const YIELD_ROWS: u64 = 512;

/// Longest record in bytes. It stops a forgotten quote from pulling the whole file into memory.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Bytes read from the file at a time.
const READ_BYTES: usize = 128 << 10;

/// How far a scan has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of the file, or rows of the input, that are behind.
    pub offset: u64,
    /// Rows that are behind. The first row has number 1.
    pub rows: u64,
    /// Rows that had more or fewer fields than the header.
    pub ragged_rows: u64,
}

/// How gently a table is read, for storage that others need too.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Rows that one step reads at most; about 4 MiB of the file by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_step: Option<NonZeroU64>,
    /// Rest between two steps in milliseconds; none by default. A resting job holds no slot and no memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_ms: Option<NonZeroU64>,
}

impl Pace {
    /// What a step answers that has more to do: its progress, and the rest that it takes.
    pub fn step<O>(self, progress: Progress, context: &mut Context) -> Step<O> {
        match self.rest_ms {
            None => Step::Progress(progress),
            Some(rest_ms) => {
                context.report(progress);
                Step::Sleep(Duration::from_millis(rest_ms.get()))
            }
        }
    }
}

/// A table: its columns, and where its rows are. Opening the file again after a restore is its own business.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    columns: Vec<String>,
    data_set: DataSet,
    /// Bytes of the file when the job began, or rows of the input.
    size: u64,
    /// Offset of the first row.
    begin: u64,
    /// How far a statement's rows are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pages: Option<Pages>,
    #[serde(skip)]
    opened: Option<File>,
}

/// One row while it is being read.
#[derive(Debug)]
pub struct Row<'a> {
    /// Number of the row, from 1, the header not counted.
    pub number: u64,
    fields: Fields<'a>,
    nulls: &'a Nulls,
}

/// The texts that mean "no value", made quick to tell from the many that do not.
#[derive(Debug)]
struct Nulls {
    texts: BTreeSet<Vec<u8>>,
    begins: [bool; 256],
}

impl Nulls {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let texts: BTreeSet<Vec<u8>> = texts.map(|text| text.trim().as_bytes().to_vec()).collect();
        let mut begins = [false; 256];
        for first in texts.iter().filter_map(|text| text.first()) {
            begins[usize::from(*first)] = true;
        }
        Self { texts, begins }
    }

    fn holds(&self, field: &[u8]) -> bool {
        let field = field.trim_ascii();
        field.first().is_none_or(|first| self.begins[usize::from(*first)]) && self.texts.contains(field)
    }
}

#[derive(Debug)]
enum Fields<'a> {
    Record(&'a ByteRecord),
    Object(&'a [Option<String>]),
}

impl Row<'_> {
    /// The field of a column; `None` where it has no value.
    pub fn get(&self, column: usize) -> Option<&[u8]> {
        let field = match self.fields {
            Fields::Record(record) => record.get(column)?,
            Fields::Object(fields) => fields.get(column)?.as_deref()?.as_bytes(),
        };
        (!self.nulls.holds(field)).then_some(field)
    }
}

impl Table {
    /// Opens a table and reads its header.
    ///
    /// # Errors
    /// `InvalidInput` when the data set is not one of a file, rows and a statement, the file is not there or has no header,
    /// or a column stands there twice; `Permanent` when the file cannot be read or the statement is refused.
    pub fn open(data_set: DataSet) -> Result<Self, Failure> {
        delimiter(&data_set)?;
        let table = match (&data_set.file, &data_set.rows, &data_set.sql) {
            (Some(path), None, None) => {
                let file = File::open(path).map_err(Failure::invalid_input)?;
                let size = file.bytes();
                let (columns, opened) = (Vec::new(), Some(file));
                let mut table = Self { columns, data_set, size, begin: 0, pages: None, opened };
                table.read_header()?;
                table
            }
            (None, Some(rows), None) => {
                let columns: BTreeSet<&String> = rows.iter().flat_map(|row| row.keys()).collect();
                let columns = columns.into_iter().cloned().collect();
                let size = rows.len() as u64;
                Self { columns, data_set, size, begin: 0, pages: None, opened: None }
            }
            (None, None, Some(asked)) => {
                let (columns, size) = statement::described(asked)?;
                let pages = Some(Pages::new(asked)?);
                Self { columns, data_set, size, begin: 0, pages, opened: None }
            }
            _ => return Err(Failure::invalid_input("a data set needs one of `file`, `rows` and `sql`")),
        };
        let mut seen = BTreeSet::new();
        match table.columns.iter().find(|column| !seen.insert(column.as_str())) {
            Some(twice) => {
                Err(Failure::invalid_input(format_args!("the column {twice:?} stands in the header twice")))
            }
            None if table.columns.is_empty() => Err(Failure::invalid_input("the table has no columns")),
            None => Ok(table),
        }
    }

    fn read_header(&mut self) -> Result<(), Failure> {
        let file = self.opened.take().ok_or_else(|| Failure::permanent("the file is not open"))?;
        let source = Source::new(&file, 0);
        let limit = Rc::clone(&source.limit);
        limit.set(RECORD_BYTES_MAX);
        let mut reader = self.reader(source);
        let mut header = ByteRecord::new();
        reader.read_byte_record(&mut header).map_err(|error| self.unreadable(0, &error))?;
        self.begin = reader.position().byte();
        drop(reader);
        self.columns = header.iter().map(|name| crate::value::text(name.trim_ascii())).collect();
        self.opened = Some(file);
        Ok(())
    }

    /// Names of the columns in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Index of a column.
    ///
    /// # Errors
    /// `InvalidInput` naming the columns that there are.
    pub fn column(&self, name: &str) -> Result<usize, Failure> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let known = self.columns.join(", ");
            Failure::invalid_input(format_args!("there is no column {name:?}; there are: {known}"))
        })
    }

    /// Indexes of several columns, at least one.
    ///
    /// # Errors
    /// As for [`Table::column`]; also when none is named.
    pub fn indexes(&self, columns: &Columns) -> Result<Vec<usize>, Failure> {
        if columns.names().is_empty() {
            return Err(Failure::invalid_input("a list of columns is empty"));
        }
        columns.names().iter().map(|name| self.column(name)).collect()
    }

    /// Size of the whole in units of [`Position::offset`].
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What a person calls this table.
    pub fn name(&self) -> &str {
        let sql = self.data_set.sql.as_ref().map(|asked| asked.connection.as_str());
        self.data_set.file.as_deref().or(sql).unwrap_or("the rows of the input")
    }

    /// Hands the next rows to `each`, from `position` on, and moves it on. Returns true at the end of the
    /// table. A piece ends after [`SCAN_BYTES`] or [`SCAN_ROWS`] or the pace's number of rows, or when the
    /// host asks to yield; what `each` does must not depend on where pieces end.
    ///
    /// # Errors
    /// The first failure of `each`; `Permanent` when the file cannot be read, has changed its size since the
    /// job began, or holds a record longer than [`RECORD_BYTES_MAX`]; what the database says.
    pub fn scan(
        &mut self,
        position: &mut Position,
        pace: Pace,
        context: &Context,
        mut each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let rows_end = position.rows.saturating_add(pace.rows_per_step.map_or(u64::MAX, NonZeroU64::get));
        let nulls = match &self.data_set.null_values {
            Some(values) => Nulls::new(values.iter().map(String::as_str)),
            None => Nulls::new(NULL_VALUES.into_iter()),
        };
        if let (Some(asked), Some(pages)) = (&self.data_set.sql, &mut self.pages) {
            let rows_end = rows_end.min(position.rows.saturating_add(SCAN_ROWS));
            if position.rows == 0 {
                // Another pass.
                pages.begin(asked)?;
            }
            return pages.read(position, rows_end, self.size, context, |number, fields| {
                each(&Row { number, fields: Fields::Object(fields), nulls: &nulls })
            });
        }
        match &self.data_set.file {
            Some(path) => {
                let file = match self.opened.take() {
                    Some(file) => file,
                    None => File::open(path).map_err(Failure::permanent)?,
                };
                if file.bytes() != self.size {
                    return Err(Failure::permanent(format_args!(
                        "{path:?} had {} bytes when the job began and has {} now",
                        self.size,
                        file.bytes()
                    )));
                }
                let ended = self.scan_file(&file, position, rows_end, context, &nulls, each);
                self.opened = Some(file);
                ended
            }
            None => self.scan_rows(
                position,
                rows_end.min(position.rows.saturating_add(SCAN_ROWS)),
                context,
                &nulls,
                each,
            ),
        }
    }

    fn scan_file(
        &self,
        file: &File,
        position: &mut Position,
        rows_end: u64,
        context: &Context,
        nulls: &Nulls,
        mut each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        position.offset = position.offset.max(self.begin);
        let start = position.offset;
        let source = Source::new(file, start);
        let limit = Rc::clone(&source.limit);
        let mut reader = self.reader(source);
        let mut record = ByteRecord::new();
        loop {
            let behind = reader.position().byte();
            position.offset = start + behind;
            if behind >= SCAN_BYTES
                || position.rows >= rows_end
                || (position.rows.is_multiple_of(YIELD_ROWS) && behind > 0 && context.should_yield())
            {
                return Ok(position.offset >= self.size);
            }
            limit.set(position.offset + RECORD_BYTES_MAX);
            let read = reader.read_byte_record(&mut record);
            if !read.map_err(|error| self.unreadable(position.rows + 1, &error))? {
                position.offset = self.size;
                return Ok(true);
            }
            position.rows += 1;
            if record.len() != self.columns.len() {
                position.ragged_rows += 1;
            }
            each(&Row { number: position.rows, fields: Fields::Record(&record), nulls })?;
        }
    }

    fn scan_rows(
        &self,
        position: &mut Position,
        rows_end: u64,
        context: &Context,
        nulls: &Nulls,
        mut each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let rows = self.data_set.rows.as_deref().unwrap_or_default();
        let index: BTreeMap<&str, usize> =
            self.columns.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let begin = usize::try_from(position.offset).unwrap_or(usize::MAX).min(rows.len());
        let mut fields: Vec<Option<String>> = Vec::new();
        for row in &rows[begin..] {
            if position.rows >= rows_end {
                break;
            }
            fields.clear();
            fields.resize(self.columns.len(), None);
            for (name, value) in row {
                if let Some(column) = index.get(name.as_str()) {
                    fields[*column] = match value {
                        Value::Null => None,
                        Value::String(text) => Some(text.clone()),
                        value => Some(value.to_string()),
                    };
                }
            }
            position.offset += 1;
            position.rows += 1;
            if row.len() != self.columns.len() {
                position.ragged_rows += 1;
            }
            each(&Row { number: position.rows, fields: Fields::Object(&fields), nulls })?;
            if position.rows.is_multiple_of(YIELD_ROWS) && context.should_yield() {
                break;
            }
        }
        Ok(position.offset >= self.size)
    }

    fn reader<'a>(&self, source: Source<'a>) -> csv::Reader<Source<'a>> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter(&self.data_set).unwrap_or(b','))
            .buffer_capacity(READ_BYTES)
            .from_reader(source)
    }

    fn unreadable(&self, row: u64, error: &csv::Error) -> Failure {
        Failure::permanent(format_args!("{}, row {row}: {error}", self.name()))
    }
}

fn delimiter(data_set: &DataSet) -> Result<u8, Failure> {
    match data_set.delimiter.as_deref().map(str::as_bytes) {
        None => Ok(b','),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        Some(_) => Err(Failure::invalid_input("`delimiter` must be one ASCII character")),
    }
}

/// The file from an offset on, up to a moving limit.
struct Source<'a> {
    file: &'a File,
    offset: u64,
    limit: Rc<Cell<u64>>,
}

impl<'a> Source<'a> {
    fn new(file: &'a File, offset: u64) -> Self {
        Self { file, offset, limit: Rc::new(Cell::new(offset)) }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // The reader asks for more only when the record it is reading goes on beyond all it has.
        if self.offset >= self.limit.get() && self.offset < self.file.bytes() {
            return Err(std::io::Error::other(format!(
                "a record of more than {RECORD_BYTES_MAX} bytes; is a quote not closed?"
            )));
        }
        let left = usize::try_from(self.file.bytes().saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(self.offset, &mut buffer[..wanted]).map_err(std::io::Error::other)?;
        self.offset += read as u64;
        Ok(read)
    }
}
