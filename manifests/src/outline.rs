//! Where the values of a document are in its text.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::OnceLock;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span, StructureStyle};

use crate::position::ReadError;
use crate::tree::Step;

/// How deep collections may nest. The libraries that read values refuse deeper nesting.
pub(crate) const MAX_DEPTH: usize = 127;

/// The longest key, in characters. YAML's own limit is 1,024, which JSON does not have.
const MAX_KEY_CHARACTERS: usize = 128 * 1024;

fn options() -> Options {
    granit_parser::options! {
        simple_key_max_lookahead: MAX_KEY_CHARACTERS,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        max_buffered_comment_events: usize::MAX,
    }
}

/// Refuses a text whose collections nest too deeply. The text need not be valid.
pub(crate) fn refuse_depth(text: &str) -> Result<(), ReadError> {
    let error = Parser::new_from_str_with_options(text, options()).find_map(Result::err);
    match error {
        Some(error) if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) => {
            let place = Some((error.marker().line(), error.marker().col() + 1));
            Err(ReadError { what: "nested too deeply", place })
        }
        _ => Ok(()),
    }
}

/// The places of all values of a document, each before those within it.
#[derive(Default)]
pub(crate) struct Outline {
    nodes: Vec<Node>,
    /// The comments, each from its `#` to the end of its line.
    pub(crate) comments: Vec<Range<usize>>,
    hasher: RandomState,
    /// From a collection and a step to the child. Built when a place is first needed.
    children: OnceLock<HashMap<(u32, u64), u32>>,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeStyle {
    /// A text, a number, a boolean or null, which may be empty.
    Scalar,
    /// A list or mapping on lines of its own.
    Block,
    /// A list or mapping in brackets or braces.
    Flow,
    /// A reference to a value that is elsewhere.
    Alias,
}

/// Offsets are in bytes, and 32 bits are enough because the size of files is limited.
struct Node {
    parent: u32,
    /// The hash of its key, or its index in a list.
    step: u64,
    key: Range<u32>,
    value: Range<u32>,
    style: NodeStyle,
}

/// The place of a value in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlace {
    /// Its key, with its quotes. An item of a list has none.
    pub(crate) key: Option<Range<usize>>,
    /// Empty if no text is written for it.
    pub(crate) value: Range<usize>,
    pub(crate) style: NodeStyle,
}

impl NodePlace {
    /// Where it begins, with its key.
    pub(crate) fn start(&self) -> usize {
        self.key.as_ref().map_or(self.value.start, |key| key.start)
    }
}

impl Outline {
    /// The outline of a text. It has no places if the parser of places does not understand the text.
    pub(crate) fn of(text: &str) -> Self {
        let mut builder = OutlineBuilder { text, open: Vec::new(), outline: Self::default() };
        for event in Parser::new_from_str_with_options(text, options()) {
            match event {
                Ok((event, span)) => builder.take(event, &span),
                Err(_) => return Self::default(),
            }
        }
        builder.outline
    }

    /// The value at the end of a path.
    pub(crate) fn find<'a>(&self, path: impl IntoIterator<Item = Step<'a>>) -> Option<NodePlace> {
        let mut node = 0;
        for step in path {
            node = self.child(node, step)?;
        }
        self.place(node)
    }

    /// The innermost existing value on a path, and the number of steps to it.
    pub(crate) fn innermost(&self, path: &[Step<'_>]) -> Option<(NodePlace, usize)> {
        let mut node = 0;
        for (depth, step) in path.iter().enumerate() {
            match self.child(node, *step) {
                Some(child) => node = child,
                None => return Some((self.place(node)?, depth)),
            }
        }
        Some((self.place(node)?, path.len()))
    }

    fn child(&self, node: u32, step: Step<'_>) -> Option<u32> {
        let children = self.children.get_or_init(|| {
            let nodes = (0..).zip(&self.nodes).skip(1);
            nodes.map(|(index, node)| ((node.parent, node.step), index)).collect()
        });
        let is_list = |child: &u32| self.nodes[*child as usize].key.is_empty();
        match step {
            Step::Key(key) => children.get(&(node, self.hasher.hash_one(key))).copied(),
            Step::Index(index) => children.get(&(node, index as u64)).copied().filter(is_list),
        }
    }

    fn place(&self, node: u32) -> Option<NodePlace> {
        let Node { key, value, style, .. } = self.nodes.get(node as usize)?;
        Some(NodePlace {
            key: (!key.is_empty()).then(|| wide(key)),
            value: wide(value),
            style: *style,
        })
    }
}

/// Builds an outline from the parser's events.
struct OutlineBuilder<'a> {
    text: &'a str,
    /// The collections around the next event, the outermost first.
    open: Vec<OpenNode>,
    outline: Outline,
}

/// A collection that has not ended yet.
struct OpenNode {
    node: usize,
    is_mapping: bool,
    /// In a mapping, the hash of the key whose value comes next, and where the key is.
    key: Option<(u64, Range<usize>)>,
    /// The number of its values so far.
    count: u64,
    /// Where its last part ends.
    end: usize,
}

impl OutlineBuilder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) {
        match event {
            Event::Scalar(text, style, ..) => {
                let hash = self.outline.hasher.hash_one(&*text);
                let range = self.range_of_scalar(span, style);
                self.leaf(hash, NodeStyle::Scalar, range);
            }
            // A key that is an alias is not found.
            Event::Alias(_) => {
                self.leaf(self.outline.hasher.hash_one(0), NodeStyle::Alias, range_of(span));
            }
            Event::SequenceStart(style, ..) => self.begin(style, false, span),
            Event::MappingStart(style, ..) => self.begin(style, true, span),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Comment(..) => self.outline.comments.push(range_of(span)),
            _ => {}
        }
    }

    fn leaf(&mut self, hash: u64, style: NodeStyle, range: Range<usize>) {
        if let Some(last) =
            self.open.last_mut().filter(|last| last.is_mapping && last.key.is_none())
        {
            last.end = range.end;
            last.key = Some((hash, range));
            return;
        }
        let end = range.end;
        self.push(style, range);
        self.close(end);
    }

    fn begin(&mut self, style: StructureStyle, is_mapping: bool, span: &Span) {
        let mut range = range_of(span);
        let style = match style {
            StructureStyle::Block => NodeStyle::Block,
            StructureStyle::Flow => NodeStyle::Flow,
        };
        if style == NodeStyle::Block && !is_mapping && !self.text[range.start..].starts_with('-') {
            // For a list that is indented like its key, the parser reports a start after the first dash.
            let before = self.text[..range.start].trim_end();
            if before.ends_with('-') {
                range = before.len() - 1..before.len() - 1;
            }
        }
        let end = range.start;
        let node = self.push(style, range);
        self.open.push(OpenNode { node, is_mapping, key: None, count: 0, end });
    }

    fn end(&mut self, span: &Span) {
        let Some(OpenNode { node, end, .. }) = self.open.pop() else { return };
        let Node { style, value, .. } = &mut self.outline.nodes[node];
        let end = if *style == NodeStyle::Flow { range_of(span).end } else { end };
        value.end = narrow(end).max(value.start);
        self.close(end);
    }

    /// Adds a value to the open collection.
    fn push(&mut self, style: NodeStyle, value: Range<usize>) -> usize {
        let (mut parent, mut step, mut key) = (u32::MAX, 0, 0..0);
        if let Some(last) = self.open.last_mut() {
            parent = narrow(last.node);
            (step, key) = last.key.take().unwrap_or((last.count, 0..0));
            last.count += 1;
        }
        let (key, value) = (narrow_range(&key), narrow_range(&value));
        self.outline.nodes.push(Node { parent, step, key, value, style });
        self.outline.nodes.len() - 1
    }

    /// Ends the last part of the open collection here.
    fn close(&mut self, end: usize) {
        if let Some(last) = self.open.last_mut() {
            last.end = last.end.max(end);
        }
    }

    /// Where a scalar is, without the text after it. An empty one is right after the colon of its key.
    fn range_of_scalar(&self, span: &Span, style: ScalarStyle) -> Range<usize> {
        let Range { start, end } = range_of(span);
        let key = self.open.last().and_then(|last| last.key.as_ref());
        if let (true, Some((_, key))) = (start == end && style == ScalarStyle::Plain, key) {
            let colon = self.text[key.end..].find(|next: char| !next.is_whitespace()).unwrap_or(0);
            let is_colon = self.text[key.end + colon..].starts_with(':');
            let end = key.end + if is_colon { colon + 1 } else { 0 };
            return end..end;
        }
        if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return start..start + self.text[start..end].trim_end().len();
        }
        // The parser leaves out the bar and the rest of its line.
        let from = key.map_or(self.open.last().map_or(0, |last| last.end), |(_, key)| key.end);
        let before = self.text.get(from..start).unwrap_or_default();
        let header = [" |", " >"]
            .iter()
            .filter_map(|bar| before.find(bar))
            .min()
            .map_or(start, |found| from + found + 1);
        header..header + length_of_lines(&self.text[header..end])
    }
}

/// The length of a text on lines of its own, up to a comment that is indented less.
fn length_of_lines(text: &str) -> usize {
    let Some((header, lines)) = text.split_once('\n') else { return text.trim_end().len() };
    let indent_of = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let first = lines.lines().find(|line| !line.trim().is_empty());
    let indent = first.map_or(0, indent_of);
    let mut length = header.len() + 1;
    for line in lines.split_inclusive('\n') {
        if !line.trim().is_empty() && indent_of(line) < indent {
            break;
        }
        length += line.len();
    }
    text[..length].trim_end().len()
}

fn range_of(span: &Span) -> Range<usize> {
    // When the input is a text, every place has an offset.
    span.byte_range().unwrap_or_default()
}

fn narrow_range(range: &Range<usize>) -> Range<u32> {
    narrow(range.start)..narrow(range.end)
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
