use reprise_gguf::{Metadata, Value as Gg};
use reprise_text::*;
use serde_json::{Map, Value, json};
#[test]
fn qa() {
    let d: Value = serde_json::from_slice(&std::fs::read("/tmp/w/text/qa.json").unwrap()).unwrap();
    let m = Metadata::new([("tokenizer.ggml.model".to_owned(), Gg::String("llama".to_owned())),("tokenizer.ggml.tokens".to_owned(),Gg::Array(["<unk>", "<s>", "</s>"].map(|t| Gg::String(t.to_owned())).to_vec()))]);
    let text = Text::from_metadata(&m).unwrap();
    let (mut same, mut diff, mut err) = (0,0,0);
    for row in d["templates"].as_array().unwrap() {
        let name=row["name"].as_str().unwrap();
        let t = match ChatTemplate::new(row["source"].as_str().unwrap(), text.tokenizer.vocab()) { Ok(t)=>t, Err(e)=>{println!("## {name}: PARSE {e}"); continue} };
        let caps=t.caps();
        if caps!=row["caps"] { for (k,v) in caps.as_object().unwrap() { if row["caps"][k]!=*v { println!("## {name}: CAPS {k} ours {v}"); } } }
        for (i,(req,ans)) in d["requests"].as_array().unwrap().iter().zip(row["answers"].as_array().unwrap()).enumerate() {
            let empty=Map::new();
            let prefills = req["messages"].as_array().and_then(|a| a.last()).is_some_and(|l| l["role"]=="assistant");
            let input=TemplateInput{messages:&req["messages"],tools:req.get("tools"),add_generation_prompt:req["add_generation_prompt"]!=json!(false),continuation: if prefills {Continuation::Auto} else {Continuation::None},extra:req["chat_template_kwargs"].as_object().unwrap_or(&empty),now:LocalTime(1795569037)};
            match (t.render(&input), ans["prompt"].as_str()) {
                (Ok(p),Some(e)) if p==e => same+=1,
                (Err(_),None) => same+=1,
                (Ok(p),Some(e)) => {diff+=1; let at=p.bytes().zip(e.bytes()).take_while(|(a,b)|a==b).count(); let cut=|s:&str| String::from_utf8_lossy(&s.as_bytes()[at.saturating_sub(30)..(at+90).min(s.len())]).into_owned(); println!("-- {name} #{i} at {at}\n   ours {:?}\n   ref  {:?}",cut(&p),cut(e));}
                (Ok(_),None) => {err+=1; println!("-- {name} #{i} ref refuses: {}", ans["error"]["message"].as_str().unwrap_or("").replace('\n'," ").chars().rev().take(160).collect::<String>().chars().rev().collect::<String>());}
                (Err(e),Some(_)) => {err+=1; println!("-- {name} #{i} we refuse: {e}");}
            }
        }
    }
    println!("same {same} diff {diff} err {err}");
}
