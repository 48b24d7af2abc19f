use super::*;
use crate::dialect::usage::{Billed, Input, Kinds, Output};

fn usage(input: [u64; 3], output: [u64; 2]) -> Usage {
    let [total, cached, written] = input.map(Some);
    let [made, reasoning] = output.map(Some);
    Usage {
        input: Input { total, cached, written },
        output: Output { total: made, reasoning },
        kinds: Kinds::default(),
    }
}

fn price(row: &str) -> Price {
    serde_json::from_str::<Row>(row).unwrap().price().unwrap()
}

const CLAUDE: &str = r#"{"input":"3","written":"3.75","written_hour":"6","cached":"0.3","output":"15",
    "over":{"tokens":200000,"input":"6","cached":"0.6","output":"22.5"}}"#;

#[test]
fn money_is_exact_and_prints_as_dollars() {
    for (text, count) in
        [("0.0006306", 630_600_000), ("12", 12_000_000_000_000), ("0", 0), ("0.000000000001", 1)]
    {
        let money = Money::dollars(text).unwrap();
        assert_eq!((money.count(), money.to_string().as_str()), (count, text));
    }
    assert_eq!(Money::dollars("0.0000000000001"), None);
    let many = (0..1_000_000).map(|_| Money::picodollars(1)).sum::<Money>();
    assert_eq!(many.to_string(), "0.000001");
}

#[test]
fn what_is_cached_and_written_is_taken_out_of_the_prompt() {
    let mut used = usage([10_000, 7_000, 2_000], [100, 40]);
    // 1,000 at 3, 7,000 at 0.3, 2,000 at 3.75, 100 at 15, each a millionth of a dollar: 1,000 picodollars = a nanodollar.
    assert_eq!(
        price(CLAUDE).cost(&used).count(),
        3_000_000_000 + 2_100_000_000 + 7_500_000_000 + 1_500_000_000
    );
    used.kinds.written_hour = 500;
    let hour = 1_500 * 3_750_000 + 500 * 6_000_000;
    assert_eq!(price(CLAUDE).cost(&used).count(), 3_000_000_000 + 2_100_000_000 + hour + 1_500_000_000);
}

#[test]
fn a_long_prompt_makes_every_token_dearer() {
    let at = |total: u64| price(CLAUDE).cost(&usage([total, 0, 0], [10, 0])).count();
    assert_eq!(at(200_000), 200_000 * 3_000_000 + 10 * 15_000_000);
    assert_eq!(at(200_001), 200_001 * 6_000_000 + 10 * 22_500_000);
}

#[test]
fn what_is_left_out_for_long_prompts_is_as_in_the_row() {
    let row =
        price(r#"{"input":"1.25","cached":"0.125","output":"10","over":{"tokens":200000,"input":"2.5"}}"#);
    let used = usage([300_000, 100_000, 50_000], [10, 4]);
    let written = 50_000 * 2_500_000;
    assert_eq!(
        row.cost(&used).count(),
        150_000 * 2_500_000 + 100_000 * 125_000 + written + 10 * 10_000_000,
        "what the row says nothing of is part of what the tier says"
    );
}

#[test]
fn a_part_that_is_more_than_its_whole_was_never_in_it() {
    let row = price(r#"{"input":"1","cached":"0.1","audio_input":"8","output":"2"}"#);
    let azure = usage([10, 161, 0], [213, 0]);
    assert_eq!(row.cost(&azure).count(), 10 * 1_000_000 + 161 * 100_000 + 213 * 2_000_000);
    let mut voxtral = usage([9, 0, 0], [201, 0]);
    voxtral.kinds.audio_in = 375;
    assert_eq!(row.cost(&voxtral).count(), 9 * 1_000_000 + 375 * 8_000_000 + 201 * 2_000_000);
    voxtral.input.total = Some(400);
    assert_eq!(row.cost(&voxtral).count(), 25 * 1_000_000 + 375 * 8_000_000 + 201 * 2_000_000);
}

#[test]
fn reasoning_pictures_and_sound_of_a_reply_may_be_priced_apart() {
    let row = price(r#"{"input":"2","output":"8","reasoning":"3","audio_output":"64","image_output":"30"}"#);
    let mut used = usage([0, 0, 0], [1_000, 300]);
    (used.kinds.audio_out, used.kinds.image_out) = (50, 20);
    let count = 630 * 8_000_000 + 300 * 3_000_000 + 50 * 64_000_000 + 20 * 30_000_000;
    assert_eq!(row.cost(&used).count(), count);
    let plain = price(r#"{"input":"2","output":"8"}"#);
    assert_eq!(plain.cost(&used).count(), 1_000 * 8_000_000);
}

#[test]
fn what_is_billed_goes_before_what_was_used() {
    let row = price(r#"{"input":"2.5","output":"10","search":"0.002","request":"0.005"}"#);
    let mut used = usage([505, 448, 0], [107, 0]);
    used.kinds.billed = Some(Billed { input: 10, output: 104, searches: 0 });
    assert_eq!(row.cost(&used).count(), 5_000_000_000 + 10 * 2_500_000 + 104 * 10_000_000);
    let ranked = Kinds { billed: Some(Billed { searches: 3, ..Billed::default() }), ..Kinds::default() };
    let ranked = Usage { kinds: ranked, ..Usage::default() };
    assert_eq!(row.cost(&ranked).to_string(), "0.011");
}

#[test]
fn the_shipped_table_is_right_in_itself() {
    let book = shipped();
    assert_eq!(book.as_of, "2026-11-22");
    let named = |provider, model| book.find(provider, model).map(|price| price.rates.input);
    assert_eq!(named("openai", "gpt-5-nano-2025-08-07"), Some(50_000));
    assert_eq!(named("anthropic", "claude-haiku-4-5-20251001"), Some(1_000_000));
    assert_eq!(named("vertex-anthropic", "claude-haiku-4-5@20251001"), Some(1_000_000));
    let bedrock = |model| named("bedrock-converse", model);
    assert_eq!(bedrock("us.anthropic.claude-haiku-4-5-20251001-v1:0"), Some(1_100_000));
    assert_eq!(bedrock("global.anthropic.claude-haiku-4-5-20251001-v1:0"), Some(1_000_000));
    assert_eq!(bedrock("us.amazon.nova-2-lite-v1:0"), Some(300_000));
    assert_eq!(named("gemini", "models/gemini-2.5-flash"), Some(300_000));
    assert_eq!(named("openai", "gpt-5.9"), None, "what came later is not what it is named after");
    for row in Book::rows(include_str!("../../../data/prices-2026-11.json")).unwrap() {
        assert!(!row.providers.is_empty() && !row.models.is_empty(), "{row:?}");
        let price = row.price().unwrap();
        assert!(price.rates.input + price.rates.output > 0 || price.search > Money::ZERO, "{row:?}");
        assert!(
            price.rates.cached <= price.rates.input && price.rates.written >= price.rates.input,
            "{row:?}"
        );
    }
}

#[test]
fn a_price_is_sought_where_it_is_most_particular() {
    let row = |seller: &str, pattern: &str, input: &str| {
        let price = price(&format!(r#"{{"input":"{input}"}}"#));
        (seller.to_owned(), Pattern::parse(pattern).unwrap(), Arc::new(price))
    };
    let rows = [row("openai", "*", "9"), row("openai", "gpt-5*", "8"), row("mine", "gpt-5-nano", "7")];
    let prices = Prices::new(rows, shipped());
    let find = |cluster, provider, is_engine, model| {
        let quote = prices.find(Seller { cluster, provider, is_engine }, model);
        match quote {
            Quote::At(price) => Some(price.rates.input),
            Quote::Free => Some(0),
            Quote::Told(_) | Quote::Unknown => None,
        }
    };
    assert_eq!(find("mine", "openai", false, "gpt-5-nano"), Some(7_000_000));
    assert_eq!(find("other", "openai", false, "gpt-5-nano"), Some(8_000_000));
    assert_eq!(find("other", "openai", false, "o3"), Some(9_000_000));
    assert_eq!(find("mine", "vllm", true, "gpt-5-nano"), Some(7_000_000), "an engine costs what one says");
    assert_eq!(find("other", "vllm", true, "gpt-5-nano"), Some(0));
    assert_eq!(find("other", "compatible", false, "gpt-5-nano"), None);
    assert_eq!(find("other", "anthropic", false, "claude-haiku-4-5"), Some(1_000_000));
}

#[test]
fn who_says_what_it_costs_is_believed() {
    let prices = Prices::new([], shipped());
    let quote = |provider, model| prices.find(Seller { cluster: "c", provider, is_engine: false }, model);
    let mut used = usage([100, 0, 0], [10, 0]);
    assert_eq!(quote("openrouter", "anything").cost(&used), None, "it did not say");
    used.kinds.told = NonZeroU64::new(427_000_000);
    assert_eq!(quote("openrouter", "anything").cost(&used), Money::dollars("0.000427"));
    assert_eq!(quote("xai", "grok-4.3").cost(&used), Money::dollars("0.000427"));
    assert_eq!(
        quote("deepseek", "deepseek-chat").cost(&used).unwrap().count(),
        100 * 300_000 + 10 * 1_200_000
    );
    assert_eq!(quote("compatible", "x").cost(&used), None, "anyone could say so");
}
