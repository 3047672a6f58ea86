//! The fields that a schema file names.

use serde_json::Value;

pub(crate) struct Field {
    /// The way to it from the root of the message: names, and `*` for the elements of an array or a map.
    pub(crate) place: Vec<String>,
    pub(crate) required: bool,
}

impl Field {
    pub(crate) fn name(&self) -> &str {
        self.place.last().map_or("", String::as_str)
    }
}

pub(crate) fn fields(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    walk(schema, schema, &mut Vec::new(), &mut found);
    found
}

/// The schema itself, or the one that it refers to.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(target) => root.pointer(&target[1..]).expect("a definition of the same file"),
        None => schema,
    }
}

fn walk(root: &Value, schema: &Value, place: &mut Vec<String>, found: &mut Vec<Field>) {
    let schema = resolve(root, schema);
    for element in ["items", "additionalProperties"]
        .iter()
        .filter_map(|keyword| schema.get(keyword))
    {
        place.push("*".to_owned());
        walk(root, element, place, found);
        place.pop();
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        place.push(name.clone());
        let required = schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|other| other == name));
        found.push(Field {
            place: place.clone(),
            required,
        });
        walk(root, inner, place, found);
        place.pop();
    }
}
